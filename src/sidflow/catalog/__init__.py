"""From raw data of any shape to the catalogue: sources, k-core, order, pictures, and the synthetic catalogue."""
