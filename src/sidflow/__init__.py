"""sidflow: raw interactions to multimodal semantic IDs and an LLM recommender, stage by stage."""
