"""From ordered interactions to sequences, queries and targets, with a lint for what would make numbers lie."""
