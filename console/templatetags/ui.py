"""The component vocabulary of the templates: plain Django tags and filters, loaded everywhere. Every one is on the page /ui/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django import template
from django.template.context import RequestContext
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from console.packages import icon_drawing
from console.templatetags import formats
from core.clock import now
from monitoring.models import Verdict
from monitoring.queries.shapes import DriftCell
from serving.sealed_names import shown_name

register = template.Library()
register.filter("number", formats.number)
register.filter("change_to", formats.signed_change)
register.filter("points", formats.points)
register.filter("percent", formats.percent)
register.filter("share", formats.share)
register.filter("ms", formats.ms)
register.filter("bytes", formats.size)
register.filter("duration", formats.duration)
register.filter("counted", formats.counted)

_TONES = {
    "ready": "good", "passed": "good", "done": "good", "resolved": "good", "stable": "good", "healthy": "good", "live": "good", "quiet": "good",
    "checking": "busy", "running": "busy", "queued": "busy", "watch": "warn", "pending": "warn", "acknowledged": "warn", "expiring": "warn",
    "refused": "bad", "failed": "bad", "dead": "bad", "firing": "bad", "open": "bad", "drifting": "bad", "severe": "bad", "revoked": "bad", "expired": "bad",
}  # fmt: skip

_JOBS = {
    "registry.tasks.check_version": "Check of a version",
    "registry.tasks.compare_answers": "Comparison of two versions' answers",
    "serving.tasks.seal": "Sealing of a deleted endpoint's log",
}

_LEVELS = {Verdict.SEVERE.value: "l4", Verdict.WATCH.value: "l2", Verdict.TOO_FEW.value: "few", Verdict.NO_DATA.value: "few"}


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """Draw one Lucide icon; it is decoration, so assistive technology skips it."""
    return format_html(
        '<svg class="icon" width="{0}" height="{0}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2"'
        ' stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{1}</svg>',
        size,
        mark_safe(icon_drawing(name)),  # noqa: S308  # a file of the pinned package
    )


@register.simple_tag
def sparkline(points: Sequence[float | None], width: int = 120, height: int = 28) -> SafeString:
    """Draw a tiny line on the server: no script, no layout shift. Unknown values are left out; fewer than two draw nothing."""
    known = [(i, float(p)) for i, p in enumerate(points) if p is not None]
    if len(known) < 2:
        return format_html('<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"></svg>', width, height)
    low, high = min(p for _, p in known), max(p for _, p in known)
    span = (high - low) or 1.0
    step = width / (len(points) - 1)
    line = " ".join(f"{i * step:.1f},{height - 3 - (p - low) / span * (height - 6):.1f}" for i, p in known)
    return format_html(
        '<svg class="spark" viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-hidden="true"><polygon points="{a},{h} {line} {b},{h}"/>'
        '<polyline points="{line}"/></svg>',
        w=width, h=height, a=f"{known[0][0] * step:.1f}", b=f"{known[-1][0] * step:.1f}", line=line,
    )  # fmt: skip


@register.simple_tag
def traffic_bar(slots: Iterable[Any]) -> SafeString:
    """Draw how the traffic is split; ``slots`` have ``name`` and ``weight`` (percent), as attributes or keys."""
    parts, words, x = [], [], 0
    for slot in slots:
        name, weight = (slot["name"], slot["weight"]) if isinstance(slot, Mapping) else (slot.name, slot.weight)
        if not weight:
            continue
        parts.append((x, weight, name if name in {"blue", "green"} else "other"))
        words.append(f"{name} {weight} %")
        x += weight
    rects = format_html_join("", '<rect x="{}" y="0" width="{}" height="10" class="{}"/>', parts)
    return format_html(
        '<svg class="split-bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>', ", ".join(words) or "no traffic", rects
    )


@register.simple_tag
def meter(share: float | None, tone: str = "", label: str = "") -> SafeString:
    """Draw a share, 0 to 1, as a bar; write the number beside it yourself."""
    width = 100 * min(1.0, max(0.0, share or 0.0))
    return format_html(
        '<svg class="meter {}" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="{}"><rect width="{}" height="6"/></svg>',
        tone, label or f"{width:.0f} percent", f"{width:.1f}",
    )  # fmt: skip


@register.simple_block_tag
def card(content: str, title: str, note: str = "", id: str = "", actions: str = "", klass: str = "") -> SafeString:  # noqa: A002  # the tag's words
    """Draw a titled panel. ``title`` is a real heading, so the page has an outline; ``actions`` is HTML that is safe already."""
    anchor = id or "c-" + "".join(char if char.isalnum() else "-" for char in title.lower())
    below = format_html('<p class="note">{}</p>', note) if note else ""
    head = format_html('<header class="card-head"><div><h2 id="{}-h">{}</h2>{}</div>{}</header>', anchor, title, below, actions)
    return format_html('<section class="card {}" id="{}" aria-labelledby="{}-h">{}{}</section>', klass, anchor, anchor, head, content)


@register.simple_tag
def pill(text: str, tone: str | None = None) -> SafeString:
    """Draw a state as a word on a colour: ``good``, ``busy``, ``warn``, ``bad``, ``blue``, ``green`` or none; by default the word's own tone."""
    return format_html('<span class="pill {}">{}</span>', _TONES.get(str(text).lower(), "") if tone is None else tone, str(text).replace("_", " "))


@register.filter
def tone(word: str) -> str:
    """Give the tone of a state's word: good, busy, warn, bad or nothing."""
    return _TONES.get(str(word).lower(), "")


def _level(cell: DriftCell | None) -> str:
    """Give the class of a cell of a heat map. Its verdict decides, never the bare PSI: the same shift is chance in few rows and drift in many."""
    if cell is None:
        return "none"
    return "few" if cell.psi is None else _LEVELS.get(cell.verdict, "l0")


@register.simple_tag
def heat_cell(cell: DriftCell | None, *, old: bool) -> SafeString:
    """Draw a cell of a heat map; ``old`` ones are left out on a narrow screen. A tag, since a page has a thousand of them."""
    css = f"{_level(cell)} old" if old else _level(cell)
    if cell is None:
        return format_html('<td class="{}"><span class="sr">no data</span></td>', css)
    title = f"{formats.moment(cell.start_at)}: {cell.text}"
    if cell.psi is None:
        return format_html('<td class="{}" title="{}"><span class="sr">too few rows</span></td>', css, title)
    return format_html('<td class="{}" title="{}"><span>{}</span></td>', css, title, f"{cell.psi:.2f}")


@register.simple_tag
def copy(text: str, label: str = "Copy") -> SafeString:
    """Draw a small button that copies ``text``."""
    return format_html('<button class="ghost square tiny" type="button" data-copy="{}" aria-label="{}">{}</button>', text, label, icon("copy", 13))


@register.simple_tag
def code_block(text: str, label: str = "Copy the command") -> SafeString:
    """Draw a command or a program with a button that copies it."""
    return format_html(
        '<div class="code-block"><pre tabindex="0" role="group" aria-label="{}"><code>{}</code></pre>'
        '<button class="ghost copy" type="button" data-copy="{}" aria-label="{}">{}</button></div>',
        label.removeprefix("Copy ").capitalize(), text, text, label, icon("copy", 14),
    )  # fmt: skip


@register.inclusion_tag("components/empty_state.html")
def empty_state(icon: str, title: str, text: str = "", command: str = "", href: str = "", label: str = "") -> dict[str, str]:
    """Say that there is nothing yet, why, and the next thing to do: a command to copy, a link, or both."""
    return {"icon_name": icon, "title": title, "text": text, "command": command, "href": href, "label": label}


@register.inclusion_tag("components/kpi.html")
def kpi(figure: Any) -> dict[str, Any]:
    """Draw a key figure: ``label, value, unit, points, delta, note, tone``."""
    return {"k": figure}


@register.inclusion_tag("components/field.html")
def field(label: str, name: str, value: Any = "", **options: Any) -> dict[str, Any]:
    """Draw a labelled input. Options: ``type`` (text, number, select, textarea, checkbox, password, file, datetime-local ...), ``note``, ``error``,
    ``choices`` (pairs or words), ``required``, ``placeholder``, ``autocomplete``, ``min``, ``max``, ``step``, ``rows``, ``disabled``, ``id``, ``klass``.
    """
    choices = [(c, c) if isinstance(c, str) else tuple(c) for c in options.pop("choices", ())]
    anchor = options.pop("id", "") or f"f-{name}"
    kind = options.pop("type", "text")
    return {"label": label, "name": name, "value": "" if value is None else value, "type": kind, "choices": choices, "anchor": anchor, **options}


@register.inclusion_tag("components/pager.html", takes_context=True)
def pager(context: RequestContext, following: str | None, shown: int | None = None, what: str = "rows", key: str = "cursor") -> dict[str, Any]:
    """Draw the foot of a keyset list: how many are shown, back to the newest, and the next page (``following`` is its cursor)."""
    request = context["request"]
    query = request.GET.copy()
    query.pop(key, None)
    first = f"?{query.urlencode()}" if query else request.path
    later = query.copy()
    if following:
        later[key] = following
    return {
        "first": first if request.GET.get(key) else "",
        "following": f"?{later.urlencode()}" if following else "",
        "text": "" if shown is None else formats.counted(shown, what),
    }


@register.inclusion_tag("components/segmented.html", takes_context=True)
def segmented(context: RequestContext, key: str, options: str, current: str, label: str = "Window") -> dict[str, Any]:
    """Draw links that set one parameter of the address; ``options`` is ``"15m:15 min,1h:1 h"``. The cursor is dropped."""
    links = []
    for option in options.split(","):
        value, _, text = option.partition(":")
        query = context["request"].GET.copy()
        query.pop("cursor", None)
        query[key] = value
        links.append({"href": f"?{query.urlencode()}", "text": text or value, "current": value == current})
    return {"links": links, "label": label}


@register.simple_tag(takes_context=True)
def sort_header(context: RequestContext, first: str, label: str, current: str) -> SafeString:
    """Draw a column's heading that sorts the list anew: as ``first`` says (``name``, ``-changed``), or turned round where ``current`` is that."""
    word = first.removeprefix("-")
    query = context["request"].GET.copy()
    query.pop("cursor", None)
    query["sort"] = (word if first.startswith("-") else f"-{word}") if current == first else first
    state, drawing = {word: ("ascending", "arrow-up"), f"-{word}": ("descending", "arrow-down")}.get(current, ("none", "chevrons-up-down"))
    return format_html('<th scope="col" aria-sort="{}"><a href="?{}">{} {}</a></th>', state, query.urlencode(), label, icon(drawing, 12))


@register.inclusion_tag("components/sort_kept.html", takes_context=True)
def sort_kept(context: RequestContext) -> dict[str, str]:
    """Keep the chosen sort in a form that filters the list."""
    return {"sort": context["request"].GET.get("sort", "")}


@register.simple_tag
def time_ago(moment: datetime | float | None, until: datetime | None = None) -> SafeString:
    """Write how long ago; the exact time (UTC) is in the title and in the element's ``datetime``. Of a window that ends ``until`` the title is the span."""
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    if moment is None:
        return format_html("<span>{}</span>", "never")
    title = formats.span(moment, until)
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.astimezone(UTC).isoformat(timespec="seconds"), title, formats.ago(moment, now()))


@register.simple_tag
def window_span(start: datetime, end: datetime | None) -> str:
    """Write a window from its start to its end."""
    return formats.span(start, end)


@register.simple_tag
def window_head(start: datetime, step_s: int) -> SafeString:
    """Write the head of a column of windows; what there is no room for is still read out."""
    label = formats.window_label(start, step_s)
    return format_html('<span class="tick">{}</span>', label) if label else format_html('<span class="sr">{}</span>', f"{start.astimezone(UTC):%H:%M}")


@register.filter
def utc(moment: datetime | None) -> str:
    """Write a moment in full: ``2026-11-22 14:05:09 UTC``."""
    return formats.NOTHING if moment is None else formats.moment(moment)


@register.filter
def answered(value: Any) -> str:
    """Write a value of a prediction; what is none, for NaN and infinity too, is a dash, also within a list."""
    if isinstance(value, list):
        return f"[{', '.join(map(answered, value))}]"
    return formats.NOTHING if value is None else str(value)


@register.filter
def typical(value: Any) -> str:
    """Write what is typical of a feature: a number in three digits, anything else as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return formats.number(value)
    return formats.NOTHING if value in (None, "") else str(value)


@register.filter
def pretty(value: Any) -> str:
    """Write JSON with two spaces of indent, for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def as_json(value: Any) -> str:
    """Write JSON for a ``data-`` attribute; the template escapes it."""
    return json.dumps(value, ensure_ascii=False, default=str)


@register.filter
def short(digest: str | None) -> str:
    """Give the first seven characters of a digest, as people quote it."""
    return (digest or formats.NOTHING)[:7]


@register.filter
def item(mapping: Mapping[str, Any] | None, key: str) -> Any:
    """Look up a key that is a variable."""
    return None if mapping is None else mapping.get(key)


@register.filter
def endpoint_name(name: str) -> str:
    """Write the name of an endpoint that may be deleted by now: ``churn-scorer (deleted)``."""
    return shown_name(name)


@register.filter
def breakable(name: str) -> SafeString:
    """Let a long name break after its underscores and not within a word."""
    return format_html_join(mark_safe("_<wbr>"), "{}", ((part,) for part in name.split("_")))


@register.filter
def verb_words(verb: str) -> str:
    """Write the verb of an audit entry as words: ``Sign in``."""
    return verb.rpartition(".")[2].replace("_", " ").capitalize()


@register.filter
def spaced(name: str) -> str:
    """Write the name of a field as words: ``windows in a row``."""
    return name.replace("_", " ")


@register.filter
def job_words(kind: str) -> str:
    """Write the kind of a job as words: ``Check of a version``."""
    return _JOBS.get(kind, kind)


@register.filter
def slot_class(name: str) -> str:
    """Give the colour of a slot: blue and green are themselves, every other is ink."""
    return name if name in {"blue", "green"} else "other"
