"""Sequential recommenders that read item content: DMESR, raw features."""
