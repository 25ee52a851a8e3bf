locals {
  nightly = jsondecode(templatefile("${path.module}/../nightly.json", {
    templates      = "${local.work}/templates"
    inputs         = var.input_prefix == "" ? "gs://${var.input_bucket}" : "gs://${var.input_bucket}/${var.input_prefix}"
    output         = "gs://${google_storage_bucket.output.name}/photos"
    policy         = var.policy
    image          = local.image
    worker_ram     = var.worker_ram
    worker_account = google_service_account.worker.email
    work           = local.work
    machine_type   = var.machine_type
    max_workers    = var.max_workers
    subnetwork     = google_compute_subnetwork.workers.self_link
  }))
  parameters = merge(
    local.nightly.launchParameter.parameters,
    var.key_bucket == "" ? {} : { key_file = "gs://${var.key_bucket}/${var.key_object}" },
  )
}

# One name for all nights: while last night's job still runs, Dataflow refuses the next one.
resource "google_cloud_scheduler_job" "nightly" {
  name             = "${var.name}-nightly-redact"
  description      = "Redacts what is new or changed in gs://${var.input_bucket}"
  region           = var.region
  schedule         = var.schedule
  time_zone        = var.time_zone
  paused           = var.paused
  attempt_deadline = "320s"

  retry_config {
    retry_count          = 2
    min_backoff_duration = "60s"
  }

  http_target {
    http_method = "POST"
    uri         = "https://dataflow.googleapis.com/v1b3/projects/${var.project}/locations/${var.region}/flexTemplates:launch"
    headers     = { "Content-Type" = "application/json" }
    body = base64encode(jsonencode({
      launchParameter = merge(local.nightly.launchParameter, { parameters = local.parameters })
    }))

    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  depends_on = [google_storage_bucket_object.template, google_project_service.needed]
}
