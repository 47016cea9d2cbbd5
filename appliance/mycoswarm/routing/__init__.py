"""Layer 3: deciding where a prompt goes. Pure: no clock, no socket, no file."""
