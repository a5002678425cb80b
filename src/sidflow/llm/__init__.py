"""MME-SID: a causal language model, one token per item, LoRA, and a score that is one inner product."""
