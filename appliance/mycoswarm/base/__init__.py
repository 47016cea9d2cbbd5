"""Layer 0: errors, settings, units. Imports nothing of ours."""
