"""Layer 4: what must survive: SQLite."""
