"""Asking the processes of a machine for their metrics, when one of them hangs."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from core.metrics.exposition import gauge
from core.metrics.siblings import Sibling, gather


def test_processes_that_hang_are_told_as_such_and_cost_the_others_nothing(tmp_path: Path) -> None:
    sibling = Sibling(tmp_path, "zone", lambda: [gauge("signalbox_mark", "A mark.", 7)])
    sibling.start()
    with contextlib.ExitStack() as stack:
        for number in range(3):  # they listen, and their queues of callers are full
            path = str(tmp_path / "metrics" / f"hanging.{number}")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            listener.bind(path)
            listener.listen(0)
            for _ in range(2):
                caller = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                caller.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    caller.connect(path)
        _, page = gather(tmp_path, {"hanging", "zone"}, "text/plain")
    sibling.stop()
    lines = page.decode().splitlines()
    assert {line for line in lines if line.startswith("signalbox_process_up")} == {
        *[f'signalbox_process_up{{pid="{number}",process="hanging"}} 0.0' for number in range(3)],
        f'signalbox_process_up{{pid="{os.getpid()}",process="zone"}} 1.0',
    }
    assert f'signalbox_mark{{pid="{os.getpid()}",process="zone"}} 7.0' in lines
