"""What the command line does, free of the command line: each module is called by `sidflow.cli` and by tests."""
