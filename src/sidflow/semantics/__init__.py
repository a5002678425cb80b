"""Item semantics: texts that describe each item from its text, its picture, or both."""
