"""What a finished project answers: recommendations, items, IDs of new items. For the Python API and the CLI."""
