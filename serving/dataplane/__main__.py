"""Starts one data-plane process: ``python -m serving.dataplane --fd 3``, or ``--host 127.0.0.1 --port 8701``."""

from __future__ import annotations

import argparse
import os
import socket

# pyarrow's own allocator keeps what it once had; the system's is as fast for the log and gives it back.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import uvloop

from core.environment import environment
from serving.dataplane.listen import listening
from serving.dataplane.process import prepare
from serving.dataplane.server import Options, serve


def main() -> None:
    """Read the arguments, listen, serve."""
    parser = argparse.ArgumentParser(prog="python -m serving.dataplane", description="Answer predictions from the published route table.")
    parser.add_argument("--fd", type=int, help="a listening socket that was inherited, shared by several processes")
    parser.add_argument("--host", default=environment().host)
    parser.add_argument("--port", type=int, default=environment().predict_port)
    parser.add_argument("--plain-asgi", action="store_true", help="answer everything by ASGI: slower, for comparison")
    arguments = parser.parse_args()
    prepare()
    sock = listening(arguments.host, arguments.port) if arguments.fd is None else socket.socket(fileno=arguments.fd)
    uvloop.run(serve(environment(), Options(sock, arguments.plain_asgi)))


if __name__ == "__main__":
    main()
