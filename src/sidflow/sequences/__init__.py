"""What everything that reads histories shares: splits, histories, windows, batches, negatives, co-occurrence counts."""
