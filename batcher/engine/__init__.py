"""The engine: lease, reserve, admit, call, parse, settle. It does not know who woke it."""
