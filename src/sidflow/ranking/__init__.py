"""Exact ranking by inner product: scores, search, ranks of the targets."""
