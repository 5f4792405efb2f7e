"""Training: batches by position, one loop for pretraining, fine-tuning and probes, checkpoints that
survive a kill."""
