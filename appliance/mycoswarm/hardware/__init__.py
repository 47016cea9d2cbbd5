"""Layer 1: facts about one machine."""
