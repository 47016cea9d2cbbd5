"""Layer 5: the life of one request, from its decision to the row in the ledger."""
