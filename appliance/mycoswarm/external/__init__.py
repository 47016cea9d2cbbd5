"""Layer 4: chat and text completions by external OpenAI-compatible endpoints, where a rule names one."""
