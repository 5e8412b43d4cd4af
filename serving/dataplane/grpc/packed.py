"""Compressed messages, unpacked with a limit. gRPC's own unpacking has none, so the server has it switched off.

gRPC then hands over the packed bytes and not their encoding, which their beginning tells: gzip's first
byte is no field of any message, and deflate's would be field 15, which no request has.
"""

from __future__ import annotations

from serving.dataplane import bodies

SERVER_OPTION = ("grpc.per_message_decompression", 0)
_GZIP = b"\x1f\x8b"
_ZLIB = 0x78


def encoding_of(data: bytes) -> bytes:
    """Give ``gzip``, ``deflate``, or nothing for a message as it is."""
    if data[:2] == _GZIP:
        return b"gzip"
    # RFC 1950, section 2.2: the first two bytes, as a number, are a multiple of 31.
    return b"deflate" if len(data) > 1 and data[0] == _ZLIB and (data[0] << 8 | data[1]) % 31 == 0 else b""


def unpacked(data: bytes, limit: int) -> bytes:
    """Undo the compression; raises Oversized beyond ``limit``, BadRequest for what is damaged."""
    return bodies.unpack(data, encoding, limit) if (encoding := encoding_of(data)) else data
