"""The Django app ``console``."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"
    label = "console"

    def ready(self) -> None:
        from console.observe import count_sign_ins

        count_sign_ins()
