"""The product: shards of pairs and manifests of them: schema, writing, reading, selection,
export."""
