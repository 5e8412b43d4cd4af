"""Registering, describing, labelling, archiving and deleting in the browser; limits and alerts; lists at a fixed price."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access.actors import Actor
from core.clock import now
from core.models import Job
from monitoring.models import Alert, AlertNote, Rule
from registry.models import Alias, Model, Version
from serving.models import Endpoint
from tests.conftest import ClientOf
from tests.serving.conftest import MakeVersion, make_version


def upload(name: str = "model.joblib", content: bytes = b"not opened here") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def test_the_page_takes_every_kind_of_sample_that_can_be_read(client_of: ClientOf) -> None:
    page = client_of("scientist").get("/models/register/").content.decode()
    assert 'name="sample" accept=".csv,.json,.jsonl,.ndjson,.parquet"' in page
    assert "CSV with a header, JSON or Parquet" in page


def test_registering_goes_to_the_versions_page_and_queues_the_check(client_of: ClientOf) -> None:
    client = client_of("scientist")
    answer = client.post("/models/register/", {"name": "churn", "file": upload(), "metrics": "auc = 0.88\n\nlog loss=0.3", "tags": "team = growth"})
    assert answer["Location"] == "/models/churn/1/"
    version = Version.objects.get()
    assert (version.metrics, version.tags, version.created_by) == ({"auc": 0.88, "log loss": 0.3}, {"team": "growth"}, "scientist")
    assert Job.objects.get().subject == str(version.id)
    page = client.get("/models/churn/1/").content.decode()
    assert 'hx-trigger="every 2s"' in page


@pytest.mark.parametrize(
    "form",
    [
        {"name": "churn"},
        {"name": "../churn", "file": b"x"},
        {"name": "churn", "file": b""},
        {"name": "churn", "file": b"x", "metrics": "auc"},
        {"name": "churn", "file": b"x", "metrics": "auc = high"},
    ],
)
def test_a_wrong_registration_keeps_nothing_but_what_was_typed(client_of: ClientOf, form: dict[str, object]) -> None:
    body = form | ({"file": upload(content=form["file"])} if "file" in form else {})  # type: ignore[arg-type]  # bytes here
    answer = client_of("scientist").post("/models/register/", body | {"description": "typed before"})
    assert answer.status_code in {400, 422}
    assert 'role="alert"' in answer.content.decode()
    assert "typed before" in answer.content.decode()
    assert (Model.objects.count(), Job.objects.count()) == (0, 0)


def test_viewers_register_nothing(client_of: ClientOf) -> None:
    assert client_of("viewer").post("/models/register/", {"name": "churn", "file": upload()}).status_code == 403
    assert not Version.objects.exists()


def test_the_checklist_stops_asking_when_it_has_ended(client_of: ClientOf, version: MakeVersion) -> None:
    row = version(1)
    client = client_of("viewer")
    ended = client.get("/models/churn/1/checklist/", headers={"HX-Request": "true"})
    assert (ended["HX-Refresh"], "every 2s" in ended.content.decode()) == ("true", False)
    Version.objects.filter(id=row.id).update(state="checking")
    running = client.get("/models/churn/1/checklist/", headers={"HX-Request": "true"})
    assert ("HX-Refresh" in running, "every 2s" in running.content.decode()) == (False, True)


@pytest.mark.parametrize(("state", "column", "words"), [("refused", "refusal", "uses pipe.Clean"), ("ready", "not_servable_reason", "needs 12 GB of memory")])
def test_a_reason_stays_readable(client_of: ClientOf, state: str, column: str, words: str) -> None:
    model = Model.objects.create(name="churn")
    Version.objects.create(model=model, number=1, state=state, **{column: words})
    page = client_of("scientist").get("/models/churn/1/").content.decode()
    assert words in page
    assert "Check again" in page
    assert "There is no build to deploy" in page
    assert (">not servable</span>" in client_of("viewer").get("/models/").content.decode()) == (state == "ready")
    page = client_of("viewer").get("/models/churn/1/").content.decode()
    assert ("Check again" in page, "Checking again needs the right <code>model.register</code>" in page) == (False, True)


def test_words_are_edited_against_the_revision_that_was_seen(client_of: ClientOf, version: MakeVersion) -> None:
    version(1)
    client = client_of("scientist")
    first = {"description": "mine", "tags": "team = a", "revision": "1"}
    assert client.post("/models/churn/edit/", first).status_code == 302
    stale = client.post("/models/churn/edit/", first | {"description": "theirs"})
    assert stale.status_code == 409
    assert "theirs" in stale.content.decode()
    assert Model.objects.get().description == "mine"


def test_the_words_of_a_version_are_edited_against_what_was_seen(client_of: ClientOf, version: MakeVersion) -> None:
    Version.objects.filter(id=version(1).id).update(metrics={})
    address = "/models/churn/1/edit/"
    mine, theirs = client_of("scientist"), client_of("operator")
    form = mine.get(address).content.decode()
    assert '<input type="hidden" name="revision" value="1">' in form
    assert theirs.post(address, {"description": "theirs", "tags": "team = growth", "metrics": "", "revision": "1"}).status_code == 302
    typed = {"description": "mine", "tags": "", "metrics": "auc = 0.9", "revision": "1"}
    stale = mine.post(address, typed)
    assert stale.status_code == 409
    page = stale.content.decode()
    assert "operator set description to “theirs”; tags to team = growth." in page
    assert "auc = 0.9" in page
    assert "<dt>Description now</dt><dd>theirs</dd>" in page
    assert Version.objects.get().description == "theirs"
    # Saved again, with what the other did in sight.
    assert '<input type="hidden" name="revision" value="2">' in page
    assert mine.post(address, typed | {"revision": "2"}).status_code == 302
    assert Version.objects.get().description == "mine"


def test_an_alias_moves_only_from_where_it_was_seen(client_of: ClientOf, version: MakeVersion) -> None:
    version(1), version(2)
    client = client_of("scientist")
    assert client.post("/models/churn/aliases/", {"do": "set", "alias": "champion", "version": "1"}).status_code == 302
    assert client.post("/models/churn/aliases/", {"do": "remove", "alias": "champion", "seen": "2"}).status_code == 409
    assert Alias.objects.get().version.number == 1
    assert client.post("/models/churn/aliases/", {"do": "remove", "alias": "champion", "seen": "1"}).status_code == 302
    assert not Alias.objects.exists()


def test_what_serves_is_neither_archived_nor_deleted(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("operator")
    assert "Delete churn v12?" in client.get("/models/churn/12/delete/").content.decode()
    assert [client.post(f"/models/churn/12/{verb}/").status_code for verb in ("archive", "delete")] == [422, 422]
    row = Version.objects.get(number=12)
    assert row.archived_at is None


def test_deleting_is_for_operators(client_of: ClientOf, version: MakeVersion) -> None:
    version(1)
    refused = client_of("scientist").get("/models/churn/1/delete/")
    assert (refused.status_code, "model.delete" in refused.content.decode()) == (403, True)
    assert client_of("operator").post("/models/churn/1/delete/", {"reason": "wrong data"})["Location"] == "/models/churn/"
    assert not Version.objects.exists()


def test_downloading_needs_its_right(client_of: ClientOf) -> None:
    client_of("scientist").post("/models/register/", {"name": "churn", "file": upload(content=b"the bytes")})
    assert client_of("viewer").get("/models/churn/1/download/original/").status_code == 403
    answer = client_of("scientist").get("/models/churn/1/download/original/")
    assert b"".join(answer.streaming_content) == b"the bytes"  # type: ignore[attr-defined]  # it streams
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("application/octet-stream", "nosniff")
    assert answer["Content-Disposition"].startswith("attachment")


def a_watch(number: int) -> dict[str, object]:
    return {"cause": "drift", "dedup_key": str(number), "severity": "watch", "title": "t", "first_at": now(), "last_at": now()}


@pytest.mark.parametrize("path", ["/models/", "/models/churn/", "/monitoring/", "/alerts/", "/audit/"])
def test_a_list_costs_the_same_however_long_it_is(client_of: ClientOf, path: str) -> None:
    client = client_of("viewer")

    def price() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(path).status_code == 200
        return len(queries)

    def more(start: int) -> None:
        for number in range(start, start + 3):
            make_version(number)
            make_version(1, model=f"model-{number}")
            Endpoint.objects.create(name=f"endpoint-{number}")
            Alert.objects.create(endpoint="x", model="churn", version=1, **a_watch(number))

    more(1)
    first = price()
    more(10)
    assert price() == first


@pytest.fixture
def alert(endpoint: Endpoint) -> Alert:
    return Alert.objects.create(endpoint="churn-scorer", model="churn", version=12, **a_watch(1) | {"title": "charges drifted"})


def test_an_alert_is_acknowledged_noted_and_resolved(client_of: ClientOf, alert: Alert) -> None:
    client = client_of("operator")
    path = f"/alerts/{alert.number}/"
    assert "charges drifted" in client.get("/alerts/").content.decode()
    assert 'aria-keyshortcuts="r"' in client.get(path).content.decode()
    assert client.post(path, {"do": "acknowledge", "revision": "1"}).status_code == 302
    assert client.post(path, {"do": "note", "text": "a new price list"}).status_code == 302
    assert client.post(path, {"do": "resolve", "revision": "1"}).status_code == 409
    assert client.post(path, {"do": "resolve", "revision": "2", "text": "expected", "false_alarm": "on"}).status_code == 302
    row = Alert.objects.get()
    assert (row.state, row.acknowledged_by, row.false_alarm, row.resolution) == ("resolved", "operator", True, "expected")
    assert AlertNote.objects.filter(text="a new price list").exists()
    assert "expected" in client.get(path).content.decode()
    assert "charges drifted" not in client.get("/alerts/").content.decode()


def test_scientists_do_not_handle_alerts_and_are_told_why(client_of: ClientOf, alert: Alert) -> None:
    client = client_of("scientist")
    assert "alert.handle" in client.get(f"/alerts/{alert.number}/").content.decode()
    assert client.post(f"/alerts/{alert.number}/", {"do": "resolve"}).status_code == 403
    assert Alert.objects.get().state == "open"
    Alert.objects.update(state="resolved")
    assert "alert.handle" in client.get(f"/alerts/{alert.number}/").content.decode()


def limits(**changed: str) -> dict[str, str]:
    rule = Rule()
    names = (
        "alpha",
        "minimum_psi",
        "minimum_ks",
        "severe_psi",
        "windows_in_a_row",
        "minimum_rows",
        "minimum_outcomes",
        "minimum_coverage",
        "accuracy_drop",
        "error_rise",
    )
    return {name: str(getattr(rule, name)) for name in names} | {"revision": "1", "muted_features": ""} | changed


def test_limits_are_changed_by_operators_within_their_range(client_of: ClientOf, endpoint: Endpoint) -> None:
    client, path = client_of("operator"), "/monitoring/churn-scorer/limits/"
    assert client.post(path, limits(minimum_rows="3")).status_code == 422
    assert client.post(path, limits(minimum_rows="many")).status_code == 422
    assert client_of("scientist").post(path, limits(minimum_rows="900")).status_code == 403
    assert not Rule.objects.filter(minimum_rows=900).exists()
    assert client.post(path, limits(minimum_rows="900")).status_code == 302
    assert client.post(path, limits(minimum_rows="1000")).status_code == 409
    assert Rule.objects.get().minimum_rows == 900


def test_limits_mute_one_feature_per_line_whatever_is_in_its_name(client_of: ClientOf, endpoint: Endpoint) -> None:
    client, path = client_of("operator"), "/monitoring/churn-scorer/limits/"
    assert client.post(path, limits(muted_features="in.proline of wines\r\n\r\n  in.age \r\n")).status_code == 302
    assert Rule.objects.get().muted_features == ["in.age", "in.proline of wines"]
    assert ">in.age\nin.proline of wines</textarea>" in client.get(path).content.decode()


def test_judging_now_answers_even_when_nothing_was_predicted(client_of: ClientOf, endpoint: Endpoint, viewer: Actor) -> None:
    assert client_of("viewer").post("/monitoring/churn-scorer/evaluate/")["Location"] == "/monitoring/churn-scorer/"
