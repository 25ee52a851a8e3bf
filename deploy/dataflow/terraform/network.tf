# Workers have no public address: they reach Google's own services and nothing else.
resource "google_compute_network" "workers" {
  name                    = "${var.name}-workers"
  auto_create_subnetworks = false
  depends_on              = [google_project_service.needed]
}

resource "google_compute_subnetwork" "workers" {
  name                     = "${var.name}-workers"
  network                  = google_compute_network.workers.id
  region                   = var.region
  ip_cidr_range            = "10.120.0.0/20"
  private_ip_google_access = true
}

# Dataflow's workers talk to each other on these ports; Dataflow tags them.
resource "google_compute_firewall" "workers" {
  name        = "${var.name}-workers"
  network     = google_compute_network.workers.name
  direction   = "INGRESS"
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
