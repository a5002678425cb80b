"""Measures without a model: ranking metrics, geometry of embeddings, singular values."""
