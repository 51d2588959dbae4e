"""One label out of a given list for each document."""
