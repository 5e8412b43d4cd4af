"""Starts one gRPC process of the data plane: ``python -m serving.dataplane.grpc --port 8702``."""

from __future__ import annotations

import argparse
import os

# pyarrow's own allocator keeps what it once had; the system's is as fast for the log and gives it back.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import uvloop

from core.environment import environment
from serving.dataplane.grpc.server import Options, serve
from serving.dataplane.process import prepare


def main() -> None:
    """Read the arguments, listen, serve."""
    parser = argparse.ArgumentParser(prog="python -m serving.dataplane.grpc", description="Answer predictions over gRPC from the published route table.")
    parser.add_argument("--host", default=environment().host)
    parser.add_argument("--port", type=int, default=environment().grpc_port)
    parser.add_argument("--shared", action="store_true", help="several processes listen on the same port")
    arguments = parser.parse_args()
    prepare()
    uvloop.run(serve(environment(), Options(arguments.host, arguments.port, arguments.shared)))


if __name__ == "__main__":
    main()
