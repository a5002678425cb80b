"""A small network that ranks candidates by counted and compared evidence."""
