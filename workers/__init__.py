"""The processes that do a queue's work: the Celery app, its entrypoints and logs. No decisions."""
