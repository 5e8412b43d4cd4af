"""The Django app ``registry``."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "registry"
    label = "registry"

    def ready(self) -> None:
        """A check that ends dead must not leave its version waiting for ever."""
        from core.jobs import on_dead
        from registry.give_up import give_up
        from registry.register import CHECK

        on_dead[CHECK] = give_up
