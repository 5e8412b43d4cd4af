"""The rolling restart: one process after the other, the next one ready before the last one drains. What it runs is what is installed now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from config.up import part
from config.up.keeper import Keeper
from config.up.ready import says

DRAINED_WITHIN_S = 25.0
"""A data-plane process ends when what it has taken is answered; on Ctrl-C it is not given that long."""
READY = "Ready with route table"
"""What a data-plane process logs when it answers."""


async def roll(keepers: Iterable[Keeper], log_of: Callable[[str], Path], tell: Callable[[str], None]) -> None:
    """Replace each data-plane process, and end and start the others; the console's callers wait at its socket.

    Raises Unavailable at the first that does not get ready. Postgres, Redis and the demo stay.
    What was replaced until then stays replaced, the others go on as they are.
    """
    for keeper in keepers:
        if keeper.name.startswith("dataplane"):
            log = log_of(keeper.name)
            await keeper.replace(says(log, READY, log.stat().st_size), DRAINED_WITHIN_S)
        elif keeper.stage in (part.STAGE_WORKERS, part.STAGE_CONSOLE) or keeper.name.startswith("grpc"):
            await keeper.restart(DRAINED_WITHIN_S if keeper.stage == part.STAGE_PREDICTIONS else part.SECONDS_TO_STOP[keeper.stage])
        else:
            continue
        tell(f"{keeper.name} restarted")
