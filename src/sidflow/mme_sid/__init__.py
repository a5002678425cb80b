"""MME-SID: item tokens, the prompted backbone, frequency-aware fusion, LoRA."""
