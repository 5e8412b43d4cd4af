"""Load and unload: passed on to the console with the caller's own key, answered when this process's routes show it.

Never on the way of a prediction: an HTTP client of its own, made for the one call.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx

from core.environment import environment
from core.errors import SignalboxError
from serving.dataplane.engine import Engine
from serving.dataplane.errors import Busy, Failed, Unknown
from serving.dataplane.live import EndpointState

_ANSWER_S = 10.0
_TABLE_S = 30.0
_STEP_S = 0.02
_BEARER = b"bearer "


class Refused(SignalboxError):
    """What the console answered, with its own status."""

    code = "refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status  # type: ignore[misc]  # of this one answer, not of the class


async def change(engine: Engine, headers: Mapping[bytes, bytes], name: str, verb: str) -> EndpointState:
    """Let the console ``load`` or ``unload`` the endpoint, and give its state in the first table that has it.

    Raises Refused with the console's own words, Busy when the console or the table does not come.
    """
    revision = await _asked(headers, name, verb)
    until = time.monotonic() + _TABLE_S
    while time.monotonic() < until:
        state = engine.routes.endpoints.get(name) if engine.routes else None
        if state is None:
            raise Unknown(f"Request for unknown model: '{name}' is not found")
        if state.entry.revision >= revision:
            return state
        await asyncio.sleep(_STEP_S)
    raise Busy(f"The console has taken the {verb} of '{name}', but this process has not its routes yet after {_TABLE_S:.0f} s. The page System shows why.")


async def _asked(headers: Mapping[bytes, bytes], name: str, verb: str) -> int:
    """Ask the console, and give the endpoint's revision after it."""
    console = environment().console_url
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False, verify=await asyncio.to_thread(_tls)) as client:
            answer = await _answer(client, f"/api/v1/endpoints/{quote(name, safe='')}/{verb}/", _bearer(headers))
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Busy(
            f"The console at {console} does not answer ({type(error).__name__}), and only it can {verb} '{name}'. Nothing is known to have changed."
        ) from None
    document = _document(answer)
    if answer.status_code >= 400:
        raise Refused(answer.status_code, str(document.get("detail") or f"The console answers {answer.status_code} to the {verb} of '{name}'."))
    if not isinstance(document.get("revision"), int):
        raise Failed(f"What answers at {console} is not Signalbox's console. Set SIGNALBOX_PUBLIC_CONSOLE_URL to its address.")
    return int(document["revision"])


async def _answer(client: httpx.AsyncClient, path: str, bearer: bytes) -> httpx.Response:
    """Ask this machine's console; only where none listens, the one at the public address."""
    settings = environment()
    local = settings.local_console_url
    body = {"reason": "Asked for by the protocol's repository call."}
    headers = {b"Authorization": bearer}
    public = settings.public_console_url.rstrip("/")
    if not public:
        return await client.post(local + path, json=body, headers=headers)
    seen = httpx.URL(public)  # the console answers to this name alone, and with HTTPS to its proxy alone
    try:
        return await client.post(local + path, json=body, headers={**headers, b"Host": seen.netloc, b"X-Forwarded-Proto": seen.scheme.encode()})
    except httpx.ConnectError:
        return await client.post(public + path, json=body, headers=headers)


@cache
def _tls() -> ssl.SSLContext:
    """Made once and off the event loop: reading the certificates takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


def _bearer(headers: Mapping[bytes, bytes]) -> bytes:
    """Write the caller's key in the one way that the console reads."""
    text = headers.get(b"authorization") or headers.get(b"x-api-key", b"")
    return text if text[: len(_BEARER)].lower() == _BEARER else b"Bearer " + text


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
