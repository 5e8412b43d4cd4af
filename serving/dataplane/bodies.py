"""Bodies on the wire: gzip and deflate, both ways, with the decompressed size limited."""

from __future__ import annotations

import zlib

from serving.dataplane.errors import BadRequest, Oversized, Unreadable

_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
COMPRESS_FROM_BYTES = 1024
"""Smaller answers go out as they are: compressing them costs more than it saves."""


def unpack(body: bytes, encoding: bytes, limit: int, limit_of: str) -> bytes:
    """Undo ``Content-Encoding``. Stops at ``limit`` bytes, so a bomb is never unpacked; ``limit_of`` says whose limit it is."""
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    window = _WINDOW.get(name)
    if window is None:
        raise Unreadable(f"The content encoding {name.decode('latin-1')!r} is not known. Send gzip, deflate or none.")
    try:
        return _inflate(body, window, limit, limit_of)
    except zlib.error as error:
        raise BadRequest(f"The body is not valid {name.decode()}: {error}.") from None


def _inflate(body: bytes, window: int, limit: int, limit_of: str) -> bytes:
    unpacker = zlib.decompressobj(window)
    data = unpacker.decompress(body, limit + 1)
    if len(data) > limit:
        raise Oversized(f"The body is over {limit} bytes when unpacked, {limit_of} limit. Send fewer rows at once.")
    if not unpacker.eof:
        raise zlib.error("it is cut off")
    if unpacker.unused_data:
        raise zlib.error("something follows its end")
    return data


def pack(body: bytes, accepted: bytes) -> tuple[bytes, bytes]:
    """Give the body and its encoding (empty: as it is), by what the client accepts."""
    if len(body) < COMPRESS_FROM_BYTES:
        return body, b""
    for offer in accepted.lower().split(b","):
        name, _, weight = offer.partition(b";")
        name = name.strip()
        if weight.strip().replace(b" ", b"") in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
            continue
        if name in (b"gzip", b"deflate"):
            packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[name])
            return packer.compress(body) + packer.flush(), name
    return body, b""
