"""Losses that more than one domain trains with."""
