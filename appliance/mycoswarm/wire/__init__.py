"""Layer 1: the words and frames that nodes exchange. Bytes in, values out; no sockets, no files, no clock."""
