# Who the workers are: they run, read the photos and the image, and write the output. README.md says what the project's
# role for workers brings beside that.
resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "mien: launcher and workers of Dataflow jobs"
}

resource "google_project_iam_member" "worker" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "worker_reads_image" {
  repository = google_artifact_registry_repository.mien.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}

# Beam and gcsfs ask for the bucket itself before they list it: storage.buckets.get is in legacyBucketReader alone
resource "google_storage_bucket_iam_member" "worker_reads" {
  for_each = toset(compact([var.input_bucket, var.key_bucket]))
  bucket   = each.value
  role     = "roles/storage.objectViewer"
  member   = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_lists" {
  for_each = {
    input  = var.input_bucket
    output = google_storage_bucket.output.name
    work   = google_storage_bucket.work.name
  }
  bucket = each.value
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_writes" {
  bucket = google_storage_bucket.output.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

# A worker decodes strangers' files: if one takes it over, it must not change the next job's template or policy.
resource "google_storage_bucket_iam_member" "worker_writes_work" {
  bucket = google_storage_bucket.work.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member

  condition {
    title      = "temp and staging only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.work.name}/objects/temp/\") || resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.work.name}/objects/staging/\")"
  }
}

resource "google_storage_bucket_iam_member" "worker_reads_work" {
  bucket = google_storage_bucket.work.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member

  condition {
    title      = "templates and policies only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.work.name}/objects/templates/\") || resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.work.name}/objects/policies/\")"
  }
}

# Who starts the nightly job: it may create jobs that run as the workers, and read the templates. It sees no photo.
resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-scheduler"
  display_name = "mien: starts the nightly redaction"
}

# roles/dataflow.developer would let it cancel and change all jobs of the project too
resource "google_project_iam_custom_role" "launcher" {
  role_id     = "${replace(var.name, "-", "_")}_launcher"
  title       = "mien: launches Dataflow jobs"
  permissions = ["dataflow.jobs.create", "dataflow.jobs.get", "dataflow.jobs.list"]
  depends_on  = [google_project_service.needed]
}

resource "google_project_iam_member" "scheduler" {
  project = var.project
  role    = google_project_iam_custom_role.launcher.id
  member  = google_service_account.scheduler.member
}

resource "google_service_account_iam_member" "scheduler_starts_as_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.scheduler.member
}

resource "google_storage_bucket_iam_member" "scheduler_reads_templates" {
  bucket = google_storage_bucket.work.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.scheduler.member

  condition {
    title      = "templates only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.work.name}/objects/templates/\")"
  }
}
