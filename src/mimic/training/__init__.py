"""Training: batches by position, one loop for pretraining, fine-tuning and probes, checkpoints that
survive a kill."""

# Raise it when the same model, pairs and seed train to other weights: batches, augmentation,
# optimizer, the loop. DVC reads it, and trains every run again.
LOOP_VERSION = 1

# Raise it when a run that starts from weights takes other tensors of them, places positions or
# averages otherwise, or gives inherited layers other rates. DVC reads it, and trains the entries of
# `adapt` again.
START_VERSION = 1

# Raise it when data/recipes/<run>.json says something else of the same run. DVC reads it, writes
# these files again, and trains the runs of those that have changed.
RECIPE_VERSION = 1

# Keys of a recipe that change no byte of what is published.
HOW = {"workers", "keep", "pictures_every", "licences"}
