"""Settings, URLs, Celery and the command line: what puts the parts together."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
