"""What a REST view needs before it runs: a right, on the model or endpoint that the address names."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from access.actors import EVERYTHING
from access.permissions import require
from access.requests import request_actor
from access.rights import Right


class Needs(BasePermission):
    """Asked after IsAuthenticated; raises Forbidden, which names the right. Verbs check again for themselves."""

    read: Right
    subject_kind: str

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in {"GET", "HEAD"}:
            name = view.kwargs.get("name") if self.subject_kind else None
            require(request_actor(request), self.read, f"{self.subject_kind}:{name}" if name else EVERYTHING)
        return True


def reading_needs(right: Right, subject_kind: str = "") -> list[type[Any]]:
    """Give ``permission_classes`` for a view whose GET needs ``right``; on ``subject_kind:<name of the address>`` if named.

    What changes something is checked by the verb that does it.
    """
    needs = type("Needs", (Needs,), {"read": right, "subject_kind": subject_kind})
    return [IsAuthenticated, needs]
