"""The Django app ``serving``: hangs itself onto the hooks of the layers below."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ServingConfig(AppConfig):
    name = "serving"
    label = "serving"

    def ready(self) -> None:
        from access import keys
        from registry import delete
        from serving import hold, routes

        keys.on_keys_changed.append(routes.publish)
        delete.guards.append(hold.why_held)
        post_migrate.connect(_publish_first_table, sender=self, dispatch_uid="serving.first_table")


def _publish_first_table(**_: Any) -> None:
    """After a migration there is a table to answer from; not when the migration has just taken the tables away."""
    from django.db import connection

    from serving import routes
    from serving.models import PublishedTable

    if PublishedTable._meta.db_table in connection.introspection.table_names():  # noqa: SLF001  # _meta is documented API
        routes.publish_if_missing()
