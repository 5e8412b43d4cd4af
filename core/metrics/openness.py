"""Who may read /metrics without a key: callers of this machine, unless a proxy stands before us. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from core.environment import Environment, is_loopback

FORWARDING = frozenset(("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"))
"""The headers by which a proxy says that it passes on somebody else's request."""
REFUSAL = (
    "Metrics are told to callers of this machine, and to API keys with the scope read. "
    "Send one as 'Authorization: Bearer sbx_...', or set SIGNALBOX_METRICS_OPEN=1."
)


def needs_key(environment: Environment, peer: str, headers: Iterable[str]) -> bool:
    """Tell whether a caller must send a key. ``headers`` are the names of the request's headers in lower case.

    Behind a proxy on this machine everybody comes from its address, so that proves nothing then.
    """
    if environment.metrics_open:
        return False
    return environment.has_proxy or not is_local(peer) or not FORWARDING.isdisjoint(headers)


def is_local(peer: str) -> bool:
    """Tell whether an address is of this machine; an empty one is of a Unix socket."""
    return not peer or is_loopback(peer)
