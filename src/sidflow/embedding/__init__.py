"""Encoders of item texts and pictures, and the modalities made of their vectors."""
