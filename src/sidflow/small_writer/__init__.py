"""A small image-text-to-text model of LLaVA's architecture, trained on drawings and texts of synthetic shops."""
