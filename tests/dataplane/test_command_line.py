"""What ``signalbox predict`` shows of answers."""

from __future__ import annotations

from click.testing import CliRunner

from config.cli.main import signalbox
from tests.dataplane.conftest import KEY, Plane


def test_numbers_have_no_exponent_and_what_is_none_comes_last(standing: Plane) -> None:
    where = ("--url", standing.url, "--predict-url", standing.url, "--key", KEY)
    shown = CliRunner().invoke(signalbox, ["predict", "shares", "--row", '{"a": 1}', "--row", '{"a": -1e-9}', *where])
    assert shown.exception is None
    heading, *rows = [[part.strip() for part in line.split("  ") if part.strip()] for line in shown.stdout.splitlines()]
    assert heading == ["ROW", "PROBABILITIES", "AMOUNTS"]
    assert rows == [["0", "a 0.3, e 0.25, b 0.2 and 3 more", "1000000, -"], ["1", "d 0, f 0, b 0 and 3 more", "-0.001, -"]]
