"""How numbers, sizes and times are written on pages: always with a unit, a dash for what is not known. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime

NOTHING = "—"
MINUS = "−"
_BYTES = ("B", "kB", "MB", "GB", "TB")
_MOST_PLACES = 6


def number(value: float | None, places: int | None = None) -> str:
    """Write a number with thousands separators; without ``places``, three significant digits."""
    if value is None:
        return NOTHING
    if places is None:
        places = _places(float(f"{value:.3g}"))
    if places > _MOST_PLACES:
        return f"{value:.2e}".replace("-", MINUS)
    text = f"{value:,.{places}f}"
    return text.lstrip("-") if not float(text.replace(",", "")) else text.replace("-", MINUS)


def _places(value: float) -> int:
    """Give how many decimals three significant digits need; two from 0.1 on."""
    if value.is_integer() or abs(value) >= 100:
        return 0
    if abs(value) >= 0.1:
        return 1 if abs(value) >= 10 else 2
    return 2 - math.floor(math.log10(abs(value)))


def signed(value: float | None) -> str:
    """Write a change with its sign; no change has none."""
    text = number(value)
    return f"+{text}" if value and value > 0 and text != "0" else text


def signed_change(before: float, after: float) -> str:
    """Write the change between two numbers with its sign; what lies beyond their fourth digit is none."""
    return "0" if abs(after - before) <= 1e-4 * max(abs(before), abs(after)) else signed(after - before)


def points(share: float | None) -> str:
    """Write the change of a share, in percentage points."""
    if share is None:
        return NOTHING
    text = number(share * 100, 1)
    return f"{'+' if share > 0 and text != '0.0' else ''}{text} pt"


def counted(count: int, plural: str) -> str:
    """Write how many: ``1 key``, ``2 keys``, ``1 person``, ``1,200 entries``."""
    singular = {"people": "person"}.get(plural) or (f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s"))
    return f"{number(count)} {singular if count == 1 else plural}"


def percent(share: float | None, places: int = 0) -> str:
    """Write a share, 0 to 1, in percent."""
    return NOTHING if share is None else f"{number(share * 100, places)} %"


def share(value: float | None) -> str:
    """Write a small share, 0 to 1, in percent: nothing is a plain 0, and what is almost nothing is not called nothing."""
    if value is None:
        return NOTHING
    if not value:
        return "0"
    return "< 0.1 %" if 0 < value < 0.001 else percent(value, 1)


def ms(value: float | None) -> str:
    """Write milliseconds; from ten seconds on in seconds, below a tenth in microseconds."""
    if value is None:
        return NOTHING
    if 0 < value < 0.1:
        return f"{value * 1000:.0f} µs" if value >= 0.01 else f"{value * 1000:.1f} µs"
    if value >= 10_000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def size(value: float | None) -> str:
    """Write a number of bytes in powers of 1000."""
    if value is None:
        return NOTHING
    step = 0
    while value >= 1000 and step < len(_BYTES) - 1:
        value, step = value / 1000, step + 1
    return f"{value:.0f} {_BYTES[step]}" if step == 0 or value >= 100 else f"{value:.1f} {_BYTES[step]}"


def ago(moment: datetime | None, now: datetime) -> str:
    """Write how long ago, in the largest whole unit: ``now``, ``12 s ago``, ``3 h ago``, ``2 d ago``, ``in 4 min``."""
    if moment is None:
        return "never"
    seconds = (now - moment.astimezone(UTC)).total_seconds()
    if abs(seconds) < 5:
        return "now"
    text = duration(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def moment(at: datetime) -> str:
    """Write a moment in full: ``2026-11-22 14:05:09 UTC``."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(start: datetime, end: datetime | None) -> str:
    """Write a window: ``2026-11-22 08:30 to 08:35 UTC``, both dates where it ends on another day; without an end the moment."""
    if end is None:
        return moment(start)
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    return f"{first:%Y-%m-%d %H:%M} to {last:{'%H:%M' if first.date() == last.date() else '%Y-%m-%d %H:%M'}} UTC"


def duration(seconds: float) -> str:
    """Write a length of time in its largest whole unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def window_label(start: datetime, step_s: int) -> str:
    """Head a column of windows: the hour of hours; of 5 minutes only each quarter of an hour, for there is no room for more."""
    if step_s >= 3600:
        return f"{start.astimezone(UTC):%H}"
    return f"{start.astimezone(UTC):%H:%M}" if start.minute % 15 == 0 else ""
