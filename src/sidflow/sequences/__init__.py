"""What all models that train on users' sequences share."""
