"""Recommenders that count: no gradient, no torch; each ends as sparse or dense factors."""
