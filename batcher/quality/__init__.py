"""Quality: scoring answers whose right one is known, and what the scores say."""
