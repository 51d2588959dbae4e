"""What a job will cost and take, known before it runs, and which models can do it."""
