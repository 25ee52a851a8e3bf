locals {
  services = [
    "artifactregistry", "cloudbuild", "cloudscheduler", "compute", "dataflow", "iam", "logging", "monitoring", "storage",
  ]
  repository = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.mien.repository_id}/mien"
  pushed     = "${local.repository}:${var.image_tag}"
  image      = var.image_digest == "" ? local.pushed : "${local.repository}@${var.image_digest}"
  work       = "gs://${google_storage_bucket.work.name}"
  templates  = fileset("${path.module}/../templates", "*.json")
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

# The worker image.
resource "google_artifact_registry_repository" "mien" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "mien's worker image"

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.needed]
}

# Templates, policies, and what a job needs while it runs (temp/ and staging/).
resource "google_storage_bucket" "work" {
  name                        = "${var.project}-${var.name}-work"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  soft_delete_policy {
    retention_duration_seconds = 0 # temporary files are not to be paid for after they are gone
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.keep_days
      matches_prefix = ["temp/", "staging/"]
    }
  }
}

# Safe photos, and the record of each run.
resource "google_storage_bucket" "output" {
  name                        = "${var.project}-${var.name}-safe"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # a photo that is withheld later is deleted from the output: no older version of it may stay
  versioning {
    enabled = false
  }
  soft_delete_policy {
    retention_duration_seconds = 0
  }
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }
}

# What a template is to Dataflow: the image, and the parameters that it takes.
resource "google_storage_bucket_object" "template" {
  for_each     = local.templates
  bucket       = google_storage_bucket.work.name
  name         = "templates/${each.value}"
  content_type = "application/json"
  content = jsonencode({
    image    = local.image
    metadata = jsondecode(file("${path.module}/../templates/${each.value}"))
    sdkInfo  = { language = "PYTHON" }
    defaultEnvironment = {
      serviceAccountEmail = google_service_account.worker.email
      sdkContainerImage   = local.image
      tempLocation        = "${local.work}/temp"
      stagingLocation     = "${local.work}/staging"
      machineType         = var.machine_type
      maxWorkers          = var.max_workers
      subnetwork          = google_compute_subnetwork.workers.self_link
      ipConfiguration     = "WORKER_IP_PRIVATE"
    }
  })
}
