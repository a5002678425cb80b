"""One module per artifact: where it lies, what it holds, and what must be true of it."""
