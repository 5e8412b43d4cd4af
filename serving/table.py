"""The route table: everything the data plane needs, as one document. Pure; both sides import it.

``serving.routes`` publishes it, ``serving.dataplane`` answers from it. Encoded as JSON by msgspec.
"""

from __future__ import annotations

import msgspec

from access.limits import KeyLimits
from registry.signature import Signature

CHANNEL = "signalbox_routes"
"""The NOTIFY channel; the payload is the new revision. A hint only: poll as well."""


class BuildEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A build to hold warm; its bytes lie in the artifact store under ``digest``."""

    digest: str
    kind: str
    size_bytes: int
    model: str
    version: int
    signature: Signature
    """With the tensors of this build: ``inputs`` and ``outputs`` are its own."""


class SlotEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A filled slot. ``model`` and ``version`` are those that it answers for: two versions may share a digest.

    ``deployed_at`` in seconds since 1970: a build that was refused before then is tried again.
    """

    name: str
    build_digest: str
    model: str = ""
    version: int = 0
    weight: int
    live: bool = False
    shadow: bool = False
    deployed_at: float = 0.0


class ValidationPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What happens with a value outside the signature: ``refuse``, ``clip``, ``replace`` or ``flag``.

    ``replace`` also fills in what is missing where the model takes none missing. A wrong type, shape or name is
    always refused. The default passes and flags, since bounds and categories come from a sample.
    """

    default: str = "flag"
    features: dict[str, str] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint takes. ``requests_per_s`` and ``burst`` hold for each key by itself, over all processes; 0 is no limit."""

    max_rows: int = 10_000
    max_body_bytes: int = 16 * 2**20
    timeout_ms: int = 10_000
    max_concurrency: int = 256
    requests_per_s: float = 0.0
    burst: int = 0


class CachePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long an answer is given again for the same rows; ``ttl_s`` 0: never. ``max_bytes`` per slot and process.

    ``private``: what one key's rows were answered with is never given to another key.
    """

    ttl_s: float = 0.0
    max_bytes: int = 64 * 2**20
    private: bool = False


class EndpointEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. ``slots`` holds only filled slots; an endpoint without traffic answers 503.

    ``unloaded``, unless empty, says who took it out of service, when and why; it then has no slots here.
    """

    id: str
    name: str
    revision: int
    slots: tuple[SlotEntry, ...] = ()
    unloaded: str = ""
    sticky_on: str = ""
    log_policy: str = "fast"
    log_share: float = 1.0
    validation: ValidationPolicy = ValidationPolicy()
    limits: Limits = Limits()
    cache: CachePolicy = CachePolicy()


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An API key that may predict, or read the metrics. ``endpoints`` empty: all. ``expires_at`` in seconds since 1970, or None."""

    id: str
    secret_digest: str
    name: str
    scopes: tuple[str, ...]
    endpoints: tuple[str, ...] = ()
    expires_at: float | None = None
    limits: KeyLimits = KeyLimits()


class RouteTable(msgspec.Struct, frozen=True, kw_only=True):
    """The document. ``revision`` rises with each publication."""

    revision: int
    published_at: float
    endpoints: tuple[EndpointEntry, ...] = ()
    builds: tuple[BuildEntry, ...] = ()
    keys: tuple[KeyEntry, ...] = ()


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(RouteTable).decode


class _Outline(msgspec.Struct):
    """A table whose builds are not decoded yet: with their signatures they are nearly all of it."""

    revision: int
    published_at: float
    endpoints: tuple[EndpointEntry, ...] = ()
    builds: tuple[msgspec.Raw, ...] = ()
    keys: tuple[KeyEntry, ...] = ()


class Reader:
    """Decodes one table after the other; of builds only those that the last one did not have."""

    def __init__(self) -> None:
        self._known: dict[bytes, BuildEntry] = {}

    def decode(self, document: bytes) -> RouteTable:
        """As ``decode``; a build that is as it was in the last table is the same object."""
        outline = _decode_outline(document)
        texts = [bytes(raw) for raw in outline.builds]
        self._known = {text: self._known.get(text) or _decode_build(text) for text in texts}
        builds = tuple(self._known[text] for text in texts)
        return RouteTable(revision=outline.revision, published_at=outline.published_at, endpoints=outline.endpoints, builds=builds, keys=outline.keys)

    def encode(self, table: RouteTable) -> bytes:
        """As ``encode``, for the table that was decoded last."""
        raw = tuple(msgspec.Raw(text) for text in self._known)
        return encode(_Outline(revision=table.revision, published_at=table.published_at, endpoints=table.endpoints, builds=raw, keys=table.keys))


_decode_outline = msgspec.json.Decoder(_Outline).decode
_decode_build = msgspec.json.Decoder(BuildEntry).decode
