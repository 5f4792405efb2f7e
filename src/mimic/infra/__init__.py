"""The only code that touches disks, clusters and trackers."""
