"""What is asked of a finished project: recommendations, items, semantic IDs of new items."""
