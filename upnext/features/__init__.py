"""From raw columns to what models read: vocabularies and the item catalogue. Training and serving share it."""
