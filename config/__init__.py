"""Settings, URLs, Celery and the command line: what puts the parts together."""
