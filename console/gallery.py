"""Every component in every state, on one page; only with ``SIGNALBOX_DEBUG``. The screenshot test looks at it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.answers import page
from core.clock import now
from monitoring.queries.shapes import DriftCell

_STEPS = [
    {"key": "received", "title": "Received", "state": "passed", "text": "model.skops, 1.2 MB", "advice": "", "took_ms": 12},
    {"key": "format", "title": "Format known", "state": "passed", "text": "skops", "advice": "", "took_ms": 3},
    {"key": "converted", "title": "Converted in the sandbox", "state": "running", "text": "", "advice": "", "took_ms": None},
    {
        "key": "agreement",
        "title": "Answers agree",
        "state": "failed",
        "text": "3 of 256 rows differ.",
        "advice": "Send a sample with real rows.",
        "took_ms": 40,
    },
    {"key": "speed", "title": "Size and latency", "state": "skipped", "text": "", "advice": "", "took_ms": None},
    {"key": "ready", "title": "Ready", "state": "waiting", "text": "", "advice": "", "took_ms": None},
]

_SHIFTS = [(0.01, "stable"), (0.13, "stable"), (0.13, "watch"), (0.4, "severe"), (None, "too_few")]


@require_safe
@page
def view(request: HttpRequest) -> HttpResponse:
    """Answer the gallery, or 404 in production."""
    if not settings.DEBUG:
        raise Http404
    wave = [math.sin(i / 4) + 2 for i in range(48)]
    figures = [
        {"label": "Requests", "value": "493", "unit": "/s", "points": wave, "delta": "+4.1 %", "note": "vs last hour", "tone": ""},
        {"label": "p99 latency", "value": "12.0", "unit": "ms", "points": wave[::-1], "delta": "−1.4 ms", "note": "vs last hour", "tone": "good"},
        {"label": "Errors", "value": "2.1", "unit": "%", "points": [0.0, None, 1.0, 2.1], "delta": "+2.0 pt", "note": "vs last hour", "tone": "bad"},
        {"label": "Nothing yet", "value": "—", "unit": "", "points": [], "delta": "", "note": "no requests in 15 min", "tone": ""},
    ]
    context = {
        "figures": figures,
        "slots": [{"name": "blue", "weight": 70}, {"name": "green", "weight": 25}, {"name": "shadow", "weight": 5}],
        "moments": [now(), now() - timedelta(minutes=3), now() - timedelta(days=4), None],
        "tones": ["", "good", "busy", "warn", "bad", "blue", "green"],
        "cells": [*(DriftCell(now(), 800, psi, verdict, "") for psi, verdict in _SHIFTS), None],
        "steps": _STEPS,
        "quarters": [datetime(2026, 11, 22, 20, minute, tzinfo=UTC) for minute in range(0, 30, 5)],
        "bars": {"labels": ["benign", "malignant"], "ref": [0.63, 0.37], "cur": [0.67, 0.33]},
        "log_policies": [("durable", "Durable"), ("fast", "Fast"), ("off", "Off")],
        "title": "Components",
    }
    return render(request, "gallery/page.html", context)
