"""Results as files: JSON Lines, CSV and Parquet, streamed."""
