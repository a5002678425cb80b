"""Readers of raw data: one module per form, each ending in a `RawCatalog`."""
