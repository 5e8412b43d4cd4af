"""Fields of the requests' bodies that say what they take."""

from __future__ import annotations

from typing import Any

from rest_framework.serializers import ChoiceField


class OneOf(ChoiceField):
    """A word of a list; the refusal of another one names the list."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices, **options)
        self.error_messages["invalid_choice"] = f'"{{input}}" is not one of {", ".join(str(choice) for choice in self.choices if choice)}.'
