"""Who wakes the engine: this process, or Celery."""
