"""What passes between stages: artifacts and their checks, strict params, one reader and writer, errors."""
