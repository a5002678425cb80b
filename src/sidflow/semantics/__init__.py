"""Item semantics: documents about each item, written from its text and its picture."""
