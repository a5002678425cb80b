"""Recommenders that count: popularity, Markov, co-occurrence, EASE, item-kNN, and the oracle."""
