"""Sequences, shared by all recommenders: splits, histories, windows, batches, negatives, co-occurrence counts."""
