"""Which tier and model next: by measured evidence against a floor, by ladders learned from golden data."""
