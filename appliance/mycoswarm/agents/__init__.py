"""Layer 6: turns of a model and tools, under the same rules as prompts."""
