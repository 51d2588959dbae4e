"""The catalogue: which models there are, what they cost, what they can do, and how many tokens a text is."""
