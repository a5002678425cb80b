"""Encoders of text and pictures, and the modalities that are made of their vectors."""
