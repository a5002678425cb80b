"""One recommender's metrics, slices and diagnostics, and the comparison of all."""
