"""Handle an alert: acknowledge, resolve, note."""

from __future__ import annotations

from django.db import transaction

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.clock import now
from core.errors import Conflict, Invalid
from monitoring.errors import AlertIsClosed, NoSuchAlert
from monitoring.models import Alert, AlertNote

_LONGEST = 2000


def acknowledge(*, actor: Actor, number: int, revision: int | None = None, text: str = "") -> Alert:
    """Say that somebody looks after the alert. One that is acknowledged already is given back as it is.

    Raises NoSuchAlert, AlertIsClosed, Conflict for a stale ``revision``.
    """
    with transaction.atomic():
        alert = _lock(actor, number, revision)
        if alert.state == Alert.State.ACKNOWLEDGED:
            return alert
        if alert.state == Alert.State.RESOLVED:
            raise AlertIsClosed(f"Alert {number} was resolved by {alert.resolved_by}. Nothing was changed.")
        alert.state, alert.acknowledged_at, alert.acknowledged_by = Alert.State.ACKNOWLEDGED, now(), actor.name
        _write(actor, alert, "acknowledged", text, before="open")
    return alert


def resolve(*, actor: Actor, number: int, revision: int | None = None, text: str = "", false_alarm: bool = False) -> Alert:
    """Close the alert. While its cause lasts it stays closed, until it was calm once or became severe.

    ``false_alarm`` counts it as one. Raises NoSuchAlert, AlertIsClosed, Conflict for a stale ``revision``.
    """
    with transaction.atomic():
        alert = _lock(actor, number, revision)
        if alert.state == Alert.State.RESOLVED:
            raise AlertIsClosed(f"Alert {number} was resolved by {alert.resolved_by} already. Nothing was changed.")
        before = alert.state
        alert.state, alert.resolved_at, alert.resolved_by = Alert.State.RESOLVED, now(), actor.name
        alert.resolution, alert.false_alarm, alert.waits_for_calm = text[:_LONGEST], false_alarm, True
        _write(actor, alert, "resolved", text, before=before)
    return alert


def note(*, actor: Actor, number: int, text: str) -> AlertNote:
    """Write something about an alert, open or not. Raises NoSuchAlert, Invalid without text."""
    if not text.strip():
        raise Invalid("A note needs a text.", field="text")
    with transaction.atomic():
        alert = _lock(actor, number, None)
        written = AlertNote.objects.create(alert=alert, author=actor.name, verb="noted", text=text.strip()[:_LONGEST])
        audit.record(actor=actor, verb="note", subject_kind="alert", subject_name=str(number), reason=written.text)
    return written


def _lock(actor: Actor, number: int, revision: int | None) -> Alert:
    """Lock the alert; the right is asked for before anything about it is told."""
    alert = Alert.objects.select_for_update().filter(number=number).first()
    require(actor, Right.ALERT_HANDLE, f"endpoint:{alert.endpoint}" if alert else "*")
    if alert is None:
        raise NoSuchAlert(f"There is no alert {number}.")
    if revision is not None and alert.revision != revision:
        raise Conflict(f"Alert {number} is {alert.state} by now. Nothing was changed; look at it again.", revision=alert.revision)
    return alert


def _write(actor: Actor, alert: Alert, done: str, text: str, *, before: str) -> None:
    alert.revision += 1
    alert.save()
    AlertNote.objects.create(alert=alert, author=actor.name, verb=done, text=text.strip()[:_LONGEST])
    audit.record(
        actor=actor,
        verb={"acknowledged": "acknowledge", "resolved": "resolve"}[done],
        subject_kind="alert",
        subject_name=str(alert.number),
        before={"state": before},
        after={"state": alert.state},
        reason=text[:_LONGEST],
    )
