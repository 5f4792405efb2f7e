"""The product: shards of pairs and manifests of them: schema, writing, reading, selection,
export."""

# DVC reads these. Raise the first when the same pairs are written as other bytes: every source is
# mined again. Raise the second when other pairs are chosen for a dataset.
WRITER_VERSION = 1
SELECTION_VERSION = 2
