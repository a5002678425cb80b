"""Recommenders: everything that turns histories into factors whose inner product is a score."""
