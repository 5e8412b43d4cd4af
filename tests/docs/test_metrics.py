"""``docs/reference/metrics.md`` lists every metric of the code by the name that Prometheus sees, with its type, every reason of a refusal, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from core.environment import ROOT
from core.errors import SignalboxError
from serving.dataplane import errors, repository
from serving.runtimes import onnx

PAGE = ROOT / "docs" / "reference" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>signalbox_\w+)` \| (?P<kind>\w+) \|", re.MULTILINE)
REASON = re.compile(r"^\| `(?P<code>\w+)` \| (?P<status>\d{3}|the console's) \|", re.MULTILINE)
KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "GaugeMetricFamily": "gauge",
    "gauge": "gauge",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
}


def _sources() -> Iterator[Path]:
    for folder in ("access", "config", "console", "core", "monitoring", "registry", "serving"):
        yield from (ROOT / folder).rglob("*.py")


def _made_in(source: Path) -> Iterator[tuple[str, str]]:
    """Give name and kind of each family that the module makes; a name in a table of them is a counter's."""
    text = source.read_text()
    if "prometheus_client" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        first: ast.expr | None = None
        kind = "counter"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            first, kind = node.args[0], KINDS[node.func.id]
        elif isinstance(node, ast.Tuple) and node.elts:
            first = node.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value.startswith("signalbox_"):
            yield f"{first.value}{'_total' if kind == 'counter' else ''}", kind


def test_every_metric_is_documented_with_its_type() -> None:
    documented = {row["name"]: row["kind"] for row in ROW.finditer(PAGE.read_text())}
    made = {name: kind for source in _sources() for name, kind in _made_in(source)}
    assert "signalbox_process_up" in documented
    assert documented == made | {"signalbox_process_up": "gauge"}


def test_every_reason_of_a_refusal_is_documented_with_its_status() -> None:
    """What has no code of its own, such as a build that cannot be loaded, answers nobody."""
    documented = {row["code"]: row["status"] for row in REASON.finditer(PAGE.read_text())}
    found = [each for module in (errors, onnx) for each in vars(module).values() if isinstance(each, type) and issubclass(each, SignalboxError)]
    answered = [each for each in found if each.__module__ == errors.__name__ or each is onnx.RunFailed]
    made = {each.code: str(each.status) for each in answered if not each.__name__.startswith("_")}
    assert documented == made | {repository.Refused.code: "the console's"}
