"""Topics, keywords, entities, audience and a summary of each document."""
