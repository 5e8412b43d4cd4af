"""Runs a coroutine in an event loop of its own thread: the browser tests leave one running in the main thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run(walk: Coroutine[Any, Any, None]) -> None:
    """Run ``walk`` to its end; raises what it raises."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, walk).result()
