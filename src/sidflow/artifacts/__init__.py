"""Path, schema and checks of what passes between stages, known in this one place."""
