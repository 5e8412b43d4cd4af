"""The Django app ``registry``."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    label = "registry"

    def ready(self) -> None:
        """A job that ends dead must not leave what waits for it waiting for ever."""
        from core.jobs import on_dead
        from registry.compare_answers import COMPARE, give_up_comparison
        from registry.give_up import give_up
        from registry.register import CHECK

        on_dead[CHECK] = give_up
        on_dead[COMPARE] = give_up_comparison
