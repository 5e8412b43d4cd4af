"""The pure parts of the pages: formats, figures, checks, changes, snippets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from console import snippets
from console.changes import changes
from console.checks import Alarm, Quality, Side, checks, passed
from console.figures import figures
from console.monitoring import badness
from console.templatetags import formats, ui
from monitoring.queries.shapes import DriftCell
from registry.compare_answers import COMPARE
from registry.register import CHECK
from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving import seal
from serving.counts import Counts, Numbers
from serving.latency import BUCKETS, bucket_of
from serving.queries import TrafficSummary
from serving.traffic import RoutingState, SlotState


def numbers(requests: int, ms: float, errors: int = 0, seconds: float = 60) -> Numbers:
    latency = [0] * BUCKETS
    latency[bucket_of(ms * 1000)] = requests
    return Counts(requests=requests, rows=requests, errors=errors, latency=latency).numbers(seconds)


@pytest.mark.parametrize(
    ("value", "text"), [(None, "—"), (0.0051, "5.1 µs"), (0.042, "42 µs"), (0.4213, "0.42 ms"), (4.21, "4.2 ms"), (421.0, "421 ms"), (12_345.0, "12.3 s")]
)
def test_milliseconds_have_their_unit(value: float | None, text: str) -> None:
    assert formats.ms(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (7, "7"), (12.34, "12.3"), (1234.5, "1,234"), (0.9544, "0.95"), (0.03114, "0.0311"), (-0.000895, "−0.000895"), (-4.63e-9, "−4.63e−09")],
)
def test_numbers_have_three_digits_that_say_something(value: float | None, text: str) -> None:
    assert formats.number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (0.0, "0"), (0.0004, "< 0.1 %"), (0.0123, "1.2 %")])
def test_almost_nothing_is_not_called_nothing(value: float | None, text: str) -> None:
    assert formats.share(value) == text


@pytest.mark.parametrize(("before", "after", "text"), [(150, 150.000004, "0"), (117, 69.6, "−47.4"), (0.89, 0.99, "+0.10"), (0, 0, "0")])
def test_a_change_has_its_sign(before: float, after: float, text: str) -> None:
    assert formats.signed_change(before, after) == text


@pytest.mark.parametrize(("share", "text"), [(None, "—"), (0.042, "+4.2 pt"), (-0.042, "−4.2 pt"), (0.0, "0.0 pt")])
def test_a_change_of_a_share_is_told_in_points(share: float | None, text: str) -> None:
    assert formats.points(share) == text


@pytest.mark.parametrize(("hour", "minute", "step_s", "label"), [(20, 0, 3600, "20"), (20, 15, 300, "20:15"), (20, 20, 300, "")])
def test_a_column_of_windows_is_labelled_where_there_is_room(hour: int, minute: int, step_s: int, label: str) -> None:
    assert formats.window_label(datetime(2026, 11, 22, hour, minute, tzinfo=UTC), step_s) == label


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (999, "999 B"), (4_100_000, "4.1 MB"), (123_000_000_000_000, "123 TB")])
def test_sizes_have_their_unit(value: float | None, text: str) -> None:
    assert formats.size(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(2, "now"), (59, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago"), (200_000, "2 d ago"), (-90, "in 1 min")])
def test_times_are_told_in_their_largest_unit(seconds: int, text: str) -> None:
    moment = datetime(2026, 11, 22, 14, tzinfo=UTC)
    assert formats.ago(moment - timedelta(seconds=seconds), moment) == text


def test_a_sparkline_leaves_out_what_is_not_known() -> None:
    assert ui.sparkline([1.0, None, 3.0]).count(",") == 6
    assert "polyline" not in ui.sparkline([None, 1.0])


def test_a_text_from_outside_is_escaped_in_every_component() -> None:
    bad = "<script>x</script>"
    for html in (ui.pill(bad), ui.copy(bad), ui.code_block(bad), ui.traffic_bar([{"name": bad, "weight": 5}]), ui.time_ago(None)):
        assert "<script>" not in html


def test_the_tiles_compare_the_last_minute_with_the_quarter_of_an_hour_before() -> None:
    summary = TrafficSummary(now=numbers(6000, 4), before=numbers(90_000, 8, errors=900, seconds=900), slots={}, points={"rps": [1.0, 2.0]})
    requests, _, p99, errors, _, _ = figures(summary)
    assert (requests.value, requests.unit, requests.delta, requests.tone, requests.points) == ("100", "/s", "0", "", [1.0, 2.0]) or requests.delta == "0 %"
    assert (p99.tone, p99.delta[0]) == ("good", "−")
    assert (errors.value, errors.delta, errors.tone) == ("0.00", "−1.00 pt", "good")


def test_a_tile_without_requests_says_so() -> None:
    summary = TrafficSummary(now=numbers(0, 1), before=numbers(0, 1), slots={}, points={})
    assert [figure.value for figure in figures(summary)] == ["0.0", "—", "—", "—", "—", "0.0"]


def test_a_candidate_without_numbers_waits_in_every_check_of_numbers() -> None:
    rows = checks(Side(numbers(5000, 4)), Side())
    assert [row.verdict for row in rows] == ["wait"] * 5 + ["pass"]
    assert passed(rows) == 1


def test_a_good_candidate_passes_all_six() -> None:
    live = Side(numbers(50_000, 4), Quality("accuracy", 0.8, 500), 0.05)
    candidate = Side(numbers(1000, 4, errors=5), Quality("accuracy", 0.795, 100), 0.19)
    assert [row.verdict for row in checks(live, candidate)] == ["pass"] * 6


def test_a_bad_candidate_fails_where_it_is_bad() -> None:
    live = Side(numbers(50_000, 4), Quality("mae", 10.0, 500), 0.05)
    candidate = Side(numbers(999, 40, errors=10), Quality("mae", 11.0, 100), 0.2, (Alarm(7, "x drifted"),))
    assert [row.verdict for row in checks(live, candidate)] == ["fail", "fail", "fail", "fail", "wait", "fail"]


def test_changes_name_what_a_slot_held_and_holds() -> None:
    before = RoutingState(live_slot="blue", slots=(SlotState(name="blue", build_id="a", model="m", version=1, weight=100), SlotState(name="green")))
    after = RoutingState(
        live_slot="green",
        slots=(SlotState(name="blue", build_id="a", model="m", version=1), SlotState(name="green", build_id="b", model="m", version=2, weight=100)),
    )
    blue, green = changes(before, after)
    assert (blue.before, blue.after, blue.share_before, blue.share_after, blue.refilled) == ("v1", "v1", 100, 0, False)
    assert (green.before, green.after, green.share_before, green.share_after, green.refilled) == ("", "v2", 0, 100, True)


def test_the_request_to_copy_is_the_one_that_was_sent() -> None:
    features = (Feature(name="age", kind=Kind.INTEGER, example=41), Feature(name="city", kind=Kind.TEXT, typical="O'Hare"))
    row = snippets.example(features)
    assert row == {"age": 41, "city": "O'Hare"}
    assert """'{"rows": [{"age": 41, "city": "O'"'"'Hare"}]}'""" in snippets.curl("http://h", "e", row)
    compile(snippets.python("http://h", "e", row | {"flag": True, "gone": None}), "snippet", "exec")
    matrix = Signature(layout=Layout.MATRIX, features=features, inputs=(Tensor("input", "FP32", (-1, 2)),), outputs=())
    assert json.loads(snippets.oip(matrix, {"age": 41, "city": 2}))["inputs"] == [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [41, 2]}]
    columns = Signature(layout=Layout.COLUMNS, features=features, inputs=(Tensor("age", "INT64", (-1, 1)), Tensor("city", "BYTES", (-1, 1))), outputs=())
    assert [each["data"] for each in json.loads(snippets.oip(columns, row))["inputs"]] == [[41], ["O'Hare"]]
    assert '"data": [\n        1\n      ]' in snippets.oip(columns, row | {"age": True})


def test_a_severe_hour_is_worse_than_a_larger_shift_among_few_rows():
    at = datetime(2026, 11, 22, 14, tzinfo=UTC)
    cells = [
        DriftCell(at, rows, psi, verdict, "") for rows, psi, verdict in ((40, 0.9, "too_few"), (900, 0.3, "severe"), (300, 0.5, "stable"), (0, None, "no_data"))
    ]
    assert max(cells, key=badness).verdict == "severe"


@pytest.mark.parametrize("kind", [CHECK, COMPARE, seal.KIND])
def test_every_job_has_a_name_for_people(kind: str) -> None:
    assert "." not in ui.job_words(kind)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ((22, 8, 30), (22, 8, 35), "2026-11-22 08:30 to 08:35 UTC"),
        ((22, 0, 0), (23, 0, 0), "2026-11-22 00:00 to 2026-11-23 00:00 UTC"),
        ((22, 8, 30), None, "2026-11-22 08:30:00 UTC"),
    ],
)
def test_a_window_is_a_span(start: tuple[int, int, int], end: tuple[int, int, int] | None, text: str) -> None:
    moments = [datetime(2026, 11, *parts, tzinfo=UTC) if parts else None for parts in (start, end)]
    assert moments[0] is not None
    assert formats.span(moments[0], moments[1]) == text


@pytest.mark.parametrize(("value", "text"), [(52.540000000000006, "52.5"), (3.0, "3"), ("basic", "basic"), (True, "True"), (0, "0"), (None, "—"), ("", "—")])
def test_what_is_typical_is_written_shortly(value: object, text: str) -> None:
    assert ui.typical(value) == text
