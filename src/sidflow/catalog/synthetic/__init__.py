"""Products and pictures of the synthetic catalogue."""
