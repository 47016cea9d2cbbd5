"""Layer 8: commands."""
