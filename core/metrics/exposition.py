"""Writes metric families as Prometheus reads them: the text format, or OpenMetrics to those who ask for it.

Each process writes its own families with its own labels; a page is made by putting their pieces together,
so that nobody parses what another process has written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

Collect = Callable[[], Iterable[Metric]]
_EOF = b"# EOF"

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """One family of one process. ``head`` has its HELP and TYPE lines."""

    name: str
    head: bytes
    samples: bytes


class _Only(CollectorRegistry):
    """A registry with one family: the library's encoders take nothing smaller."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def pieces(families: Iterable[Metric], accept: str, own: Mapping[str, str]) -> list[Piece]:
    """Encode ``families`` in the form that ``accept`` asks for, each sample with the labels ``own`` besides."""
    encode, _ = choose_encoder(accept)
    return [_piece(family, own, encode) for family in families if family.samples]


def _piece(family: Metric, own: Mapping[str, str], encode: Callable[[CollectorRegistry], bytes]) -> Piece:
    family.samples = [sample._replace(labels={**sample.labels, **own}) for sample in family.samples]
    lines = encode(_Only(family)).splitlines(keepends=True)
    head = b"".join(line for line in lines if line.startswith(b"# ") and not line.startswith(_EOF))
    return Piece(family.name, head, b"".join(line for line in lines if not line.startswith(b"#")))


def page(found: Iterable[Piece], accept: str) -> tuple[str, bytes]:
    """Put the pieces of several processes together; gives the content type and the page. Each family comes once."""
    _, content_type = choose_encoder(accept)
    heads: dict[str, bytes] = {}
    samples: dict[str, list[bytes]] = {}
    for piece in found:
        heads.setdefault(piece.name, piece.head)
        samples.setdefault(piece.name, []).append(piece.samples)
    body = b"".join(heads[name] + b"".join(samples[name]) for name in sorted(heads))
    return content_type, body + (_EOF + b"\n" if content_type.startswith("application/openmetrics-text") else b"")


def process_families() -> Iterable[Metric]:
    """Give processor seconds, memory, open files and the start of this process, by their standard names."""
    return ProcessCollector(registry=None).collect()


def gauge(name: str, text: str, value: float) -> Metric:
    """Give a gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def cumulative(edges_s: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Give Prometheus' buckets: how many values are at most each edge. ``counts`` has one more, for what is above the last edge."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for edge, count in zip(edges_s, counts, strict=False):
        total += count
        buckets.append((repr(float(edge)), total))
    return [*buckets, ("+Inf", total + counts[len(edges_s)])]
