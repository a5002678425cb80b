"""Weighted sums of two recommenders' scores."""
