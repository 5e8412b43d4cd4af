"""Reads a page of Prometheus metrics with Prometheus' own parser."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, dict[str, str], float]


def samples_of(text: str) -> list[Sample]:
    """Parse the page; each sample is the name, the labels and the value."""
    parse = open_metrics_families if text.endswith("# EOF\n") else text_string_to_metric_families
    return [(sample.name, sample.labels, sample.value) for family in parse(text) for sample in family.samples]


def value_of(text: str, name: str, **labels: str) -> float:
    """Give the sum of the samples with the name and (at least) the labels; 0 without any."""
    if not text.endswith("# EOF\n"):  # OpenMetrics' parser wants families whole; the other is spared the rest of a page of a megabyte
        text = "".join(line for line in text.splitlines(keepends=True) if line.startswith((f"{name}{{", f"{name} ")))
    return sum(value for found, own, value in samples_of(text) if found == name and labels.items() <= own.items())
