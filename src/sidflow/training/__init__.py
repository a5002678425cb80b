"""The one training loop, its checkpoints, and validation while training."""
