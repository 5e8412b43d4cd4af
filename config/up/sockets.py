"""The listening sockets. The supervisor makes and keeps them, so a child that restarts loses no connection."""

from __future__ import annotations

import errno
import socket

from core.errors import Unavailable

_BACKLOG = 1024


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Listen on ``host:port``, on a free port when it is 0; raises Unavailable that names the port and the setting."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(_why(error, host, port, setting)) from error
    listener.listen(_BACKLOG)
    return listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def _why(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another program. Stop that program, or choose another port: {setting}={port + 100} signalbox up"
    return f"Cannot listen on {host}, port {port}: {error.strerror}. Set SIGNALBOX_HOST and {setting} to an address of this machine."
