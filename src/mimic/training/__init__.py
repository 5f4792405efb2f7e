"""Training: batches by position, one loop for pretraining, fine-tuning and probes, checkpoints that
survive a kill."""

# Raise it when the same model, pairs and seed train to other weights: batches, augmentation,
# optimizer, the loop. DVC reads it, and trains every run again.
LOOP_VERSION = 1
