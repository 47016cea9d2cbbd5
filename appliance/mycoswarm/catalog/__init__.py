"""Layer 1: model files: their facts, their pieces, the shelf that holds them."""
