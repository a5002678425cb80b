"""From factors to ranks: exact inner product search over the core items."""
