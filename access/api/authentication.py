"""API keys for DRF: ``Authorization: Bearer sbx_...``."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from access.keys import actor_of_key
from access.requests import KeyPrincipal, address_of


class KeyAuthentication(BaseAuthentication):
    """A request without a key goes on to the next authentication; one with a bad key ends here with 401."""

    def authenticate(self, request: Request) -> tuple[KeyPrincipal, None] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        return KeyPrincipal(actor_of_key(text.strip(), address_of(request))), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="signalbox"'


class KeyAuthenticationScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular is untyped
    """How the OpenAPI document names the keys."""

    target_class = "access.api.authentication.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "sbx_<id>_<secret>", "description": "An API key of Signalbox."}
