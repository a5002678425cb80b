"""What is counted in training parts, exactly: events, pairs of items, weights that float32 adds without rounding."""
