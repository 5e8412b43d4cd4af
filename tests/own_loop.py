"""Runs a coroutine in an event loop of its own thread: the browser tests leave one running in the main thread."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(walk: Coroutine[Any, Any, Result]) -> Result:
    """Run ``walk`` to its end and give its result; raises what it raises."""
    try:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, walk).result()
    finally:
        gc.collect()  # a gRPC channel ends its connection only when it is collected; a server would wait for that
