"""Queries to a finished project: recommendations, items, semantic IDs of new items."""
