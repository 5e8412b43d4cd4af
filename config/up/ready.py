"""Waits until a part answers. A part that keeps dying is an error at once, with the end of its log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from config.up.keeper import Check, Keeper
from core.embedded.server import last_lines
from core.errors import Unavailable

TIMEOUT_S = 180.0
_STEP_S = 0.1
_DEATHS_ALLOWED = 3
ANSWERING = "Answering over gRPC"
"""What the gRPC process writes to its log once it takes requests."""


async def wait_for(keeper: Keeper, log: Path, is_ready: Check) -> None:
    """Return when ``is_ready``; raise Unavailable when the process died three times or time is over."""
    for _ in range(int(TIMEOUT_S / _STEP_S)):
        if await is_ready():
            return
        if keeper.ends >= _DEATHS_ALLOWED:
            raise Unavailable(f"{keeper.name} keeps ending. The end of {log} says:\n{last_lines(log)}")
        await asyncio.sleep(_STEP_S)
    raise Unavailable(f"{keeper.name} was not ready after {TIMEOUT_S:.0f} s. The end of {log} says:\n{last_lines(log)}")


def answers(url: str, worst_status: int) -> Check:
    """Give a check: the address answers with at most ``worst_status``."""

    async def check() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(url)).status_code <= worst_status
        except httpx.TransportError:
            return False

    return check


def says(log: Path, word: str, since: int) -> Check:
    """Give a check: ``word`` is in ``log`` after byte ``since``."""

    async def check() -> bool:
        with log.open("rb") as lines:
            lines.seek(since)
            return word.encode() in lines.read()

    return check
