"""What every room may import: schema, ids, batches, protocols, errors, artifacts, configuration."""
