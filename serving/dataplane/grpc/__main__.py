"""Starts one gRPC process of the data plane: ``python -m serving.dataplane.grpc --fd 3``, or ``--host 127.0.0.1 --port 8702``."""

from __future__ import annotations

import argparse
import os
import socket

# pyarrow's own allocator keeps what it once had; the system's is as fast for the log and gives it back.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import uvloop

from core.environment import environment
from serving.dataplane.grpc.server import serve
from serving.dataplane.listen import listening
from serving.dataplane.process import prepare


def main() -> None:
    """Read the arguments, listen, serve."""
    parser = argparse.ArgumentParser(prog="python -m serving.dataplane.grpc", description="Answer predictions over gRPC from the published route table.")
    parser.add_argument("--fd", type=int, help="a listening socket that was inherited, shared by several processes")
    parser.add_argument("--host", default=environment().host)
    parser.add_argument("--port", type=int, default=environment().grpc_port)
    arguments = parser.parse_args()
    prepare()
    sock = listening(arguments.host, arguments.port) if arguments.fd is None else socket.socket(fileno=arguments.fd)
    uvloop.run(serve(environment(), sock))


if __name__ == "__main__":
    main()
