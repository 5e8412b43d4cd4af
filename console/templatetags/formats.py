"""How numbers, sizes and times are written on pages: always with a unit, a dash for what is not known. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

NOTHING = "—"
MINUS = "−"
_BYTES = ("B", "kB", "MB", "GB", "TB")
PSI_STEPS = (0.05, 0.10, 0.20, 0.30)
_PSI_WORDS = ("stable", "stable", "watch", "drifting", "severe")


def number(value: float | None, places: int | None = None) -> str:
    """Write a number with thousands separators; without ``places``, three significant digits below 100."""
    if value is None:
        return NOTHING
    if places is None:
        places = 0 if float(value).is_integer() or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}".replace("-", MINUS)


def counted(count: int, plural: str) -> str:
    """Write how many: ``1 key``, ``2 keys``, ``1 person``, ``1,200 entries``."""
    singular = {"people": "person"}.get(plural) or (f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s"))
    return f"{number(count)} {singular if count == 1 else plural}"


def percent(share: float | None, places: int = 0) -> str:
    """Write a share, 0 to 1, in percent."""
    return NOTHING if share is None else f"{number(share * 100, places)} %"


def ms(value: float | None) -> str:
    """Write milliseconds; from ten seconds on in seconds."""
    if value is None:
        return NOTHING
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


def duration(seconds: float) -> str:
    """Write a length of time in its largest whole unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def psi_level(value: float | None) -> int:
    """Map a PSI to one of five steps, 0 (quiet) to 4 (severe)."""
    return 0 if value is None else sum(value >= step for step in PSI_STEPS)


def psi_word(value: float | None) -> str:
    """Say a PSI in a word."""
    return "no data" if value is None else _PSI_WORDS[psi_level(value)]
