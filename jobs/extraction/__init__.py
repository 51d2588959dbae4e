"""Named fields, given by a pydantic model or a JSON Schema, out of each document."""
