"""The check that every verb makes first."""

from __future__ import annotations

from access.actors import EVERYTHING, Actor
from access.rights import Right, lowest_role_with
from core.errors import Forbidden


def require(actor: Actor, right: Right, subject: str = EVERYTHING) -> None:
    """Return if ``actor`` holds ``right`` on ``subject``, else raise Forbidden that names the right."""
    if actor.may(right, subject):
        return
    where = "" if subject == EVERYTHING else f" on {subject.replace(':', ' ')}"
    raise Forbidden(
        f"{actor.name} lacks the right {right}{where}. The role {lowest_role_with(right)} has it; an admin can grant it.",
        right=str(right),
        subject=subject,
    )
