"""Paths, schemas and checks of all artifacts that pass between stages."""
