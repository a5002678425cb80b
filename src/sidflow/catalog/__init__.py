"""Raw data to the catalogue: sources, k-core, order, pictures, the synthetic catalogue."""
