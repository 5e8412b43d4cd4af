"""Large and compressed messages: looked at before they are parsed, and unpacked with a limit.

gRPC's own unpacking has no limit, so the server has it switched off. gRPC then hands over the packed
bytes and not their encoding, which their beginning tells: gzip's first byte is no field of any message,
and deflate's would be field 15, which no request has.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.dataplane import bodies
from serving.dataplane.engine import UNVETTED_BYTES, Engine
from serving.dataplane.limits import too_large

SERVER_OPTION = ("grpc.per_message_decompression", 0)
_GZIP = b"\x1f\x8b"
_ZLIB = 0x78


def encoding_of(data: bytes) -> bytes:
    """Give ``gzip``, ``deflate``, or nothing for a message as it is."""
    if data[:2] == _GZIP:
        return b"gzip"
    # RFC 1950, section 2.2: the first two bytes, as a number, are a multiple of 31.
    return b"deflate" if len(data) > 1 and data[0] == _ZLIB and (data[0] << 8 | data[1]) % 31 == 0 else b""


def unpacked(data: bytes, limit: int, limit_of: str = "this server's") -> bytes:
    """Undo the compression; raises Oversized beyond ``limit``, BadRequest for what is damaged."""
    return bodies.unpack(data, encoding, limit, limit_of) if (encoding := encoding_of(data)) else data


def vetted(engine: Engine, headers: Mapping[bytes, bytes], data: bytes, message_bytes: int) -> bytes:
    """Give a message that may be parsed, unpacked: a large or a compressed one only of who has a key.

    Raises Oversized beyond ``message_bytes`` or the key's own limit, BadRequest for what is damaged.
    """
    if len(data) <= UNVETTED_BYTES and not encoding_of(data):
        return data
    key = engine.authorize(headers.get(b"authorization"), headers.get(b"x-api-key"))
    own = key.limits.max_body_bytes
    if not 0 < own < message_bytes:
        return unpacked(data, message_bytes)
    if len(data) > own:
        raise too_large(f"the API key {key.id} may send", own)
    return unpacked(data, own, f"the API key {key.id}'s")
