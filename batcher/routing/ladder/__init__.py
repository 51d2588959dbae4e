"""Ladders learned from golden data: which model first, when its answer stands, which model next."""
