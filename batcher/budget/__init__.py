"""Caps and the ledger: what may be spent, what is reserved, what was spent."""
