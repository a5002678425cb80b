"""Encoders of text and pictures, and the modalities built from their vectors."""
