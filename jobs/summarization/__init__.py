"""A short summary of each document."""
