"""The Django app ``monitoring``: hangs itself onto the hooks of the layers below."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
    label = "monitoring"

    def ready(self) -> None:
        """What was measured at a deleted endpoint is sealed with its log, and what was set there ends."""
        from monitoring import retire
        from serving import seal

        seal.sealed.extend(retire.MEASURED)
        seal.on_deleted.append(retire.end_settings)
