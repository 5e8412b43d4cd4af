"""The rolling restart: one process after the other, the next one ready before the last one drains. What it runs is what is installed now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from config.up import part
from config.up.keeper import Keeper
from config.up.ready import ANSWERING, says

DRAINED_WITHIN_S = 25.0
"""A data-plane process ends when what it has taken is answered; on Ctrl-C it is not given that long."""
READY = {"dataplane": "Ready with route table", "grpc": ANSWERING}
"""What a process that answers predictions logs when it does."""


async def roll(keepers: Iterable[Keeper], log_of: Callable[[str], Path], tell: Callable[[str], None]) -> None:
    """Replace each process that answers predictions, and end and start the others; the console's callers wait at its socket.

    Raises Unavailable at the first that does not get ready. Postgres, Redis and the demo stay.
    What was replaced until then stays replaced, the others go on as they are.
    """
    for keeper in keepers:
        ready = READY.get(keeper.name.partition("-")[0])
        if ready is not None:
            log = log_of(keeper.name)
            await keeper.replace(says(log, ready, log.stat().st_size), DRAINED_WITHIN_S)
        elif keeper.stage in (part.STAGE_WORKERS, part.STAGE_CONSOLE):
            await keeper.restart(part.SECONDS_TO_STOP[keeper.stage])
        else:
            continue
        tell(f"{keeper.name} restarted")
