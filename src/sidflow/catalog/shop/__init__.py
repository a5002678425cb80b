"""The synthetic catalogue: products from a grammar, drawn pictures, synthetic users, and the true probabilities."""
