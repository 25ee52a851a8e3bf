variable "project" {
  description = "Google Cloud project that the jobs run in and that is billed."
  type        = string
}

variable "region" {
  description = "Region of the jobs, the image and the buckets. Take the one in which the photos lie."
  type        = string
  default     = "europe-west1"
}

variable "name" {
  description = "What all resources are named after; together with the project the buckets' names must be free."
  type        = string
  default     = "mien"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}$", var.name))
    error_message = "The name must be 3 to 19 small letters, digits and dashes, a letter first."
  }
}

variable "image_tag" {
  description = "Tag of the worker image, deploy/Dockerfile's target worker; pushed before the first job."
  type        = string
  default     = "0.1.0"
}

variable "image_digest" {
  description = "Digest of the worker image (sha256:...), which nobody can push another image under; empty: by image_tag."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^(sha256:[0-9a-f]{64})?$", var.image_digest))
    error_message = "The digest must be sha256: and 64 hexadecimal digits, or empty."
  }
}

variable "input_bucket" {
  description = "Bucket that the photos lie in, without gs://. The jobs read it; README.md says what else they may."
  type        = string
}

variable "input_prefix" {
  description = "Folder or glob below input_bucket that the nightly redaction goes through; empty: the whole bucket."
  type        = string
  default     = ""
}

variable "policy" {
  description = "Policy of the nightly redaction: a built-in name, or the gs:// URI of a YAML file in the work bucket."
  type        = string
  default     = "redact"
}

variable "key_bucket" {
  description = "Bucket of the key for pseudonyms alone, without gs://, which the jobs may read; empty: no key."
  type        = string
  default     = ""
}

variable "key_object" {
  description = "Name of the key's file in key_bucket, made by `openssl rand -hex 32`."
  type        = string
  default     = "key"
}

variable "schedule" {
  description = "When the redaction is started, as cron has it."
  type        = string
  default     = "30 1 * * *"
}

variable "time_zone" {
  description = "Time zone of the schedule."
  type        = string
  default     = "Etc/UTC"
}

variable "paused" {
  description = "Whether the schedule is there but starts nothing."
  type        = bool
  default     = false
}

variable "machine_type" {
  description = "Machine of a worker. Dataflow starts one process for each vCPU; see the memory each needs in README.md."
  type        = string
  default     = "n2-standard-4"
}

variable "worker_ram" {
  description = "Memory that a worker must have, as a resource hint of Beam's."
  type        = string
  default     = "12GB"
}

variable "max_workers" {
  description = "As many workers as a job may have: the upper bound of what an hour costs."
  type        = number
  default     = 10
}

variable "keep_days" {
  description = "Days after which what jobs left in temp and staging is deleted."
  type        = number
  default     = 14
}
