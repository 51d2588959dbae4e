"""Providers: one file per vendor SDK, each turning a request into a completion or a classified failure."""
