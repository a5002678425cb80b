"""Recommenders that generate an item's semantic ID, token by token, under the tree of all valid IDs."""
