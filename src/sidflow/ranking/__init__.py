"""From factors to ranks and top-k lists: exact inner product over the core items."""
