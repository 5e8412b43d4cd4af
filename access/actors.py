"""The actor: who calls a verb. A plain value with all its rights, so that a check costs no query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from access.rights import ADMIN_RIGHTS, Right

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Actor:
    """``rights`` maps a subject (``*``, ``model:churn``, ``endpoint:churn-scorer``) to what may be done there."""

    kind: Literal["person", "key", "system"]
    id: str
    name: str
    rights: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    address: str = ""

    def may(self, right: Right, subject: str = EVERYTHING) -> bool:
        """Tell whether ``right`` is held everywhere or on ``subject``."""
        return right in self.rights.get(EVERYTHING, frozenset()) or right in self.rights.get(subject, frozenset())

    def may_somewhere(self, right: Right) -> bool:
        """Tell whether ``right`` is held everywhere or on any one subject."""
        return any(right in rights for rights in self.rights.values())


def system(name: str) -> Actor:
    """Give the actor for what Signalbox does by itself: ``system("monitor")``, ``system("converter")``."""
    return Actor(kind="system", id=f"system:{name}", name=name, rights={EVERYTHING: ADMIN_RIGHTS})
