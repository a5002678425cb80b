"""Metrics, slices and diagnostics of one recommender; statistics and comparison of many."""
