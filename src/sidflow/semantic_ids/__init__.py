"""Quantizers, semantic IDs, and how good they are."""
