"""Recommenders from counts and closed forms, without gradients or torch; each ends as dense or sparse factors."""
