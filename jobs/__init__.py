"""The tasks that batcher brings: one folder each, to be read, copied and edited."""
