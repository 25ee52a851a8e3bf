output "image" {
  description = "The name under which the worker image is to be pushed."
  value       = local.pushed
}

output "templates" {
  description = "Where the templates lie."
  value       = "${local.work}/templates"
}

output "work_bucket" {
  description = "Bucket of templates, policies and temporary files."
  value       = google_storage_bucket.work.name
}

output "output_bucket" {
  description = "Bucket of safe photos."
  value       = google_storage_bucket.output.name
}

output "nightly_job" {
  description = "Name of the schedule."
  value       = google_cloud_scheduler_job.nightly.name
}

output "worker_account" {
  description = "Service account of the workers."
  value       = google_service_account.worker.email
}
