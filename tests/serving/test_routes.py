"""The route table: what it holds, when it is published, what it costs."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from access.actors import system
from access.keys import create_key, revoke_key
from core.clock import now
from core.errors import Forbidden
from serving import console_key, routes
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.models import PublishedTable
from serving.table import CHANNEL, KeyEntry
from tests.serving.conftest import COLUMNS, make_version, newest_table, signature_with


def test_the_table_holds_endpoints_slots_and_builds(endpoint):
    table = newest_table()
    twelve, thirteen = table.builds
    assert (twelve.model, twelve.version, twelve.kind, twelve.size_bytes, len(twelve.digest)) == ("churn", 12, "onnx", 1012, 64)
    assert thirteen.signature == signature_with(COLUMNS)
    (entry,) = table.endpoints
    assert (entry.id, entry.name, entry.revision, entry.log_policy) == (str(endpoint.id), "churn-scorer", 3, "fast")
    assert [(slot.name, slot.build_digest, slot.version, slot.weight, slot.live) for slot in entry.slots] == [
        ("blue", twelve.digest, 12, 100, True),
        ("green", thirteen.digest, 13, 0, False),
    ]


def test_a_build_takes_its_own_tensors_not_the_versions(version):
    one = version(1).builds.get()
    one.inputs = [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]
    signature = routes.signature_of(one)
    assert [tensor.name for tensor in signature.inputs] == ["input"]
    assert [feature.name for feature in signature.features] == list(COLUMNS)


def test_two_versions_of_the_same_bytes_keep_their_numbers(operator):
    first, second = make_version(1), make_version(2)
    second.builds.update(digest=first.builds.get().digest)
    create_endpoint(actor=operator, name="twins")
    deploy(actor=operator, endpoint="twins", model="churn", version=1)
    deploy(actor=operator, endpoint="twins", model="churn", version=2)
    slots = newest_table().endpoints[0].slots
    assert [(slot.name, slot.version) for slot in slots] == [("blue", 1), ("green", 2)]
    assert slots[0].build_digest == slots[1].build_digest


def test_only_valid_keys_that_may_predict_or_see_metrics_are_in_the_table(admin):
    later = now() + timedelta(hours=1)
    kept = {
        scope: create_key(actor=admin, name=f"{scope} key", scopes=[scope], endpoints=["a", "b"], expires_at=later).key
        for scope in ("predict", "operate", "admin", "read", "outcomes", "register")
    }
    revoked = create_key(actor=admin, name="revoked", scopes=["predict"]).key
    revoke_key(actor=admin, key_id=revoked.id)
    expired = create_key(actor=admin, name="expired", scopes=["predict"]).key
    type(expired).objects.filter(id=expired.id).update(expires_at=now() - timedelta(seconds=1))
    routes.publish()
    expected = [
        KeyEntry(
            id=kept[scope].id,
            secret_digest=kept[scope].secret_digest,
            name=f"{scope} key",
            scopes=(scope,),
            endpoints=("a", "b"),
            expires_at=later.timestamp(),
        )
        for scope in ("predict", "operate", "admin", "read", "register")
    ]
    assert list(newest_table().keys) == [*sorted(expected, key=lambda key: key.id), console_key.entry()]


def test_a_key_issued_or_revoked_is_published_at_once(admin, viewer):
    key = create_key(actor=admin, name="app", scopes=["predict"]).key
    with_key = newest_table()
    assert [entry.id for entry in with_key.keys] == [key.id, console_key.ID]
    revoke_key(actor=admin, key_id=key.id)
    without = newest_table()
    assert without.keys == (console_key.entry(),)
    assert without.revision > with_key.revision
    with pytest.raises(Forbidden):
        create_key(actor=viewer, name="app", scopes=["predict"])
    assert newest_table().revision == without.revision


def test_the_cost_does_not_grow_with_the_endpoints(endpoint, operator, django_assert_num_queries):
    for number in range(5):
        create_endpoint(actor=operator, name=f"other-{number}")
    with django_assert_num_queries(3):
        table = routes.compile_table(1)
    assert len(table.endpoints) == 6


def test_the_last_hundred_are_kept(db):
    published = [routes.publish() for _ in range(110)]
    assert list(PublishedTable.objects.order_by("revision").values_list("revision", flat=True)) == published[10:]


def test_there_is_a_table_after_a_migration(db):
    PublishedTable.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert PublishedTable.objects.count() == 1
    PublishedTable.objects.all().delete()
    routes.publish_if_missing()
    revision = newest_table().revision
    routes.publish_if_missing()
    assert (PublishedTable.objects.count(), newest_table().revision) == (1, revision)


def test_the_data_plane_is_told_on_commit_and_not_on_a_failure(transactional_db):
    name = connection.settings_dict["NAME"]
    with psycopg.connect(settings.ENVIRONMENT.database_url, dbname=name, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        with transaction.atomic():
            routes.publish()
            transaction.set_rollback(True)
        revision = routes.publish()
        heard = [note.payload for note in listener.notifies(timeout=2, stop_after=1)]
    assert heard == [str(revision)]
    assert newest_table().revision == revision


def test_the_system_may_publish_for_itself(db):
    create_endpoint(actor=system("demo"), name="demo")
    assert [endpoint.name for endpoint in newest_table().endpoints] == ["demo"]
