"""Layer 8: the one place that builds the parts of a node and joins them."""
