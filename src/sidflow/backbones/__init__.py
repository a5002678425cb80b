"""Causal language models: by folder, by hub commit, or trained from scratch."""
