"""The page /metrics in Prometheus' text format: this process's own counters. Needs no key, names no person and no key."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from serving.dataplane.engine import Engine
    from serving.dataplane.live import Slot, SlotStats


class HasEngine(Protocol):
    engine: Engine


_HELP = {
    "signalbox_requests_total": ("counter", "Requests answered by a slot, by outcome."),
    "signalbox_rows_total": ("counter", "Rows answered."),
    "signalbox_batches_total": ("counter", "Runs of a build."),
    "signalbox_request_seconds_total": ("counter", "Time from a request's arrival to its answer, in sum."),
    "signalbox_run_seconds_total": ("counter", "Time spent inside the model, in sum."),
    "signalbox_in_flight": ("gauge", "Requests taken and not answered yet."),
    "signalbox_ready": ("gauge", "1 while this process takes requests."),
    "signalbox_table_revision": ("gauge", "The route table that is answered from."),
    "signalbox_spooled_segments": ("gauge", "Log segments that wait for Postgres."),
    "signalbox_lost_predictions_total": ("counter", "Predictions that could not be logged."),
    "signalbox_max_memory_bytes": ("gauge", "The most memory that this process has had."),
}


def page(request: HasEngine) -> bytes:
    """Write the page."""
    engine = request.engine
    lines: dict[str, list[str]] = {name: [] for name in _HELP}
    lines["signalbox_ready"].append(f"signalbox_ready {int(engine.is_ready)}")
    lines["signalbox_spooled_segments"].append(f"signalbox_spooled_segments {engine.log.spooled_segments}")
    lines["signalbox_lost_predictions_total"].append(f"signalbox_lost_predictions_total {engine.log.lost_predictions}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines["signalbox_max_memory_bytes"].append(f"signalbox_max_memory_bytes {memory}")
    if engine.routes is not None:
        lines["signalbox_table_revision"].append(f"signalbox_table_revision {engine.routes.revision}")
        for endpoint in engine.routes.endpoints.values():
            lines["signalbox_in_flight"].append(f'signalbox_in_flight{{endpoint="{endpoint.name}"}} {endpoint.in_flight}')
            for slot in endpoint.slots:
                _add_slot(lines, slot, slot.stats)
    return "".join(_block(name, values) for name, values in lines.items() if values).encode()


def _add_slot(lines: dict[str, list[str]], slot: Slot, stats: SlotStats) -> None:
    labels = f'endpoint="{slot.endpoint_name}",slot="{slot.name}",version="{slot.version}"'
    lines["signalbox_requests_total"] += [
        f'signalbox_requests_total{{{labels},outcome="answered"}} {stats.success_count}',
        f'signalbox_requests_total{{{labels},outcome="failed"}} {stats.fail_count}',
    ]
    lines["signalbox_rows_total"].append(f"signalbox_rows_total{{{labels}}} {stats.rows}")
    lines["signalbox_batches_total"].append(f"signalbox_batches_total{{{labels}}} {stats.batches}")
    lines["signalbox_request_seconds_total"].append(f"signalbox_request_seconds_total{{{labels}}} {stats.success_us / 1e6:.6f}")
    lines["signalbox_run_seconds_total"].append(f"signalbox_run_seconds_total{{{labels}}} {stats.run_us / 1e6:.6f}")


def _block(name: str, values: list[str]) -> str:
    kind, text = _HELP[name]
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n" + "\n".join(values) + "\n"
