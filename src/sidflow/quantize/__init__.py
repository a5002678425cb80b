"""Semantic IDs: codebooks, residual quantizers, MM-RQ-VAE, assignment, audit and gate."""
