"""Addresses without their last slash: pages and reads are led on; a change sent to the API is refused, since a redirect loses its body."""

from __future__ import annotations

from django.http import HttpRequest
from django.middleware.common import CommonMiddleware

_READS = frozenset({"GET", "HEAD"})


class Slashes(CommonMiddleware):
    """Django's own middleware, but for changes sent to the API: ``console.errors`` names their right address."""

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        if request.path.startswith("/api/") and request.method not in _READS:
            return False
        return super().should_redirect_with_slash(request)
