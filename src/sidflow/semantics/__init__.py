"""Item semantics: what is said of each item, seen through its words, its picture, or both."""
