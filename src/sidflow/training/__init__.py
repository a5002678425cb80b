"""The one training loop: devices, processes, checkpoints, losses, validation."""
