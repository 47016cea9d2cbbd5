"""Layer 4: acting: llama.cpp stages and the rings they form."""
