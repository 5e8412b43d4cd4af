"""Regions of system shared memory: who registers them, what can be one, and that every process knows of it at once."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.dataplane import models
from tests.dataplane.conftest import KEY, KEY_ENTRY, Plane, endpoint, table
from tests.dataplane.machine import ROWS, SUMS, Asker, Machine, asker, keyed, machine, memory, rest, rows_at, rows_in_body, sums_to
from tests.dataplane.objects import FOLDER, SharedObject
from tests.dataplane.standing import OPERATOR, READER

__all__ = ["asker", "machine", "memory", "rest"]


def test_all_processes_know_at_once_what_was_registered_and_what_no_more(machine: Machine, rest: Any, memory: SharedObject) -> None:
    memory.put([ROWS])
    pairs = machine.askers()
    for number in range(30):
        name = f"region {number % 3}"
        registering, (module, asking), forgetting = pairs[number % 3][1], pairs[(number + 1) % 3], pairs[(number + 2) % 3][1]
        registering.register_system_shared_memory(name, memory.key, 4096, **keyed())
        assert asking.infer("sum", rows_at(module, name), **keyed()).as_numpy("prediction").tolist() == SUMS
        forgetting.unregister_system_shared_memory(name, **keyed())
        with pytest.raises(InferenceServerException, match=f"Unable to find shared memory region: '{name}'"):
            asking.infer("sum", rows_at(module, name), **keyed())
    for _, client in pairs:
        client.close()


def test_status_tells_what_was_registered(machine: Machine, rest: Any, memory: SharedObject) -> None:
    for name, offset in (("b", 64), ("a", 0)):
        rest.register_system_shared_memory(name, memory.key, 1000, offset, **keyed())
    told = [{"name": name, "key": memory.key, "offset": offset, "byte_size": 1000} for name, offset in (("a", 0), ("b", 64))]
    (_, own), (_, plain), (_, spoken) = machine.askers()
    assert own.get_system_shared_memory_status(**keyed()) == plain.get_system_shared_memory_status(**keyed()) == told
    assert plain.get_system_shared_memory_status("b", **keyed()) == told[1:]
    regions = spoken.get_system_shared_memory_status(**keyed()).regions
    assert {name: (each.name, each.key, each.offset, each.byte_size) for name, each in regions.items()} == {each["name"]: tuple(each.values()) for each in told}
    assert list(spoken.get_system_shared_memory_status("b", **keyed()).regions) == ["b"]
    for client in (own, plain, spoken):
        with pytest.raises(InferenceServerException, match="Unable to find system shared memory region: 'c'"):
            client.get_system_shared_memory_status("c", **keyed())
        with pytest.raises(InferenceServerException, match="Unable to find cuda shared memory region: 'a'"):
            client.get_cuda_shared_memory_status("a", **keyed())
        assert "system_shared_memory" in _extensions(client.get_server_metadata())
    spoken.unregister_system_shared_memory(**keyed())
    assert own.get_system_shared_memory_status(**keyed()) == []


def _extensions(metadata: Any) -> list[str]:
    return list(metadata["extensions"] if isinstance(metadata, dict) else metadata.extensions)


def test_a_region_is_its_keys_own(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    memory.put([ROWS])
    rest.register_system_shared_memory("mine", memory.key, 4096, **keyed())
    assert not getattr(status := client.get_system_shared_memory_status(**keyed(OPERATOR)), "regions", status)
    for call in (
        lambda: client.get_system_shared_memory_status("mine", **keyed(OPERATOR)),
        lambda: client.infer("sum", rows_at(module, "mine"), **keyed(OPERATOR)),
        lambda: client.infer("sum", rows_in_body(module), outputs=sums_to(module, "mine"), **keyed(OPERATOR)),
    ):
        with pytest.raises(InferenceServerException, match=r"Unable to find (system )?shared memory region: 'mine'"):
            call()
    client.unregister_system_shared_memory("mine", **keyed(OPERATOR))
    client.unregister_system_shared_memory(**keyed(OPERATOR))
    assert client.infer("sum", rows_at(module, "mine"), **keyed()).as_numpy("prediction").tolist() == SUMS
    assert memory.get(np.float32, [2, 3]).tolist() == ROWS.tolist()
    rest.register_system_shared_memory("mine", memory.key, 8, **keyed(OPERATOR))
    assert [region["byte_size"] for region in rest.get_system_shared_memory_status(**keyed())] == [4096]


def test_a_name_is_registered_once(asker: Asker, rest: Any, memory: SharedObject) -> None:
    client = asker[1]
    rest.register_system_shared_memory("twice", memory.key, 4096, **keyed())
    with pytest.raises(InferenceServerException, match="shared memory region 'twice' already in manager") as refused:
        client.register_system_shared_memory("twice", memory.key, 8, **keyed())
    assert refused.value.status() in ("409", "StatusCode.ABORTED")
    assert [region["byte_size"] for region in rest.get_system_shared_memory_status(**keyed())] == [4096]


def test_a_key_has_a_bounded_number_of_regions(rest: Any, memory: SharedObject) -> None:
    for number in range(256):
        rest.register_system_shared_memory(str(number), memory.key, 8, **keyed())
    with pytest.raises(InferenceServerException, match="has 256 shared memory regions, the most that it may have"):
        rest.register_system_shared_memory("one more", memory.key, 8, **keyed())
    assert len(rest.get_system_shared_memory_status(**keyed())) == 256
    rest.register_system_shared_memory("of another", memory.key, 8, **keyed(OPERATOR))


@pytest.mark.parametrize(
    "key", ["", "/", "//x", "a/b", "/a/b", "../etc/passwd", "/../etc/passwd", ".", "..", "/..", "a\0b", "x" * 256, "PostgreSQL.12345", "sem.x", "not-there"]
)
def test_only_an_object_of_shared_memory_can_be_registered(asker: Asker, rest: Any, key: str) -> None:
    client = asker[1]
    with pytest.raises(InferenceServerException, match="Unable to open shared memory region") as refused:
        client.register_system_shared_memory("bad", key, 8, **keyed())
    assert "a file right in /dev/shm, no link" in refused.value.message()
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert rest.get_system_shared_memory_status(**keyed()) == []


@pytest.mark.parametrize("kind", ["symlink", "hard link", "folder", "fifo", "reserved"])
def test_what_is_no_plain_file_is_no_object(rest: Any, memory: SharedObject, kind: str) -> None:
    path = FOLDER / (f"sem.{memory.path.name}" if kind == "reserved" else f"{memory.path.name}-{kind.replace(' ', '-')}")
    makes = {
        "symlink": lambda: path.symlink_to(memory.path),
        "hard link": lambda: path.hardlink_to(memory.path),
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "reserved": lambda: path.write_bytes(bytes(4096)),
    }
    makes[kind]()
    try:
        with pytest.raises(InferenceServerException, match="Unable to open shared memory region"):
            rest.register_system_shared_memory("bad", path.name, 8, **keyed())
    finally:
        path.rmdir() if kind == "folder" else path.unlink()
    assert rest.get_system_shared_memory_status(**keyed()) == []


def test_what_is_mounted_on_an_object_is_none(rest: Any, memory: SharedObject, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(bytes(4096))
    mounted = subprocess.run(["mount", "--bind", tmp_path / "elsewhere", memory.path], check=False, capture_output=True)
    if mounted.returncode:
        # Who may not mount cannot make such an object either. Root, as whom the tests run in CI, may.
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    try:
        with pytest.raises(InferenceServerException, match="Unable to open shared memory region"):
            rest.register_system_shared_memory("bad", memory.key, 8, **keyed())
    finally:
        subprocess.run(["umount", memory.path], check=True)
    assert rest.get_system_shared_memory_status(**keyed()) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"byte_size": 4097}, "has 4096 bytes, and 4097 bytes from 0 on were named"),
        ({"byte_size": 4096, "offset": 1}, "has 4096 bytes, and 4096 bytes from 1 on were named"),
        ({"byte_size": 2**63 - 1, "offset": 2**63 - 1}, "has 4096 bytes"),
        ({"byte_size": 0}, "byte_size must be a whole number of bytes from 1 on"),
        ({"byte_size": -1}, "byte_size must be a whole number"),
        ({"byte_size": 2**64}, "byte_size must be a whole number"),
        ({"byte_size": 10**400}, ""),
        ({"byte_size": "8"}, "byte_size must be a whole number"),
        ({"byte_size": 8.0}, "byte_size must be a whole number"),
        ({"byte_size": True}, "byte_size must be a whole number"),
        ({"byte_size": None}, "byte_size must be a whole number"),
        ({"offset": -1}, "offset must be a whole number of bytes from 0 on"),
        ({"offset": None}, "offset must be a whole number"),
        ({"offset": [0]}, "offset must be a whole number"),
        ({"key": None}, "has no key"),
        ({"key": 7}, "has no key"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_nothing_is(machine: Machine, rest: Any, memory: SharedObject, changes: dict[str, Any], text: str) -> None:
    body = json.dumps({"key": memory.key, "offset": 0, "byte_size": 8} | changes)
    for plane in (machine.own, machine.plain):
        answer = plane.client.post("/v2/systemsharedmemory/region/bad/register", content=body)
        assert (answer.status_code, list(answer.json()), text in answer.json()["error"]) == (400, ["error"], True), answer.text
    assert rest.get_system_shared_memory_status(**keyed()) == []


def test_a_region_has_a_name(machine: Machine, memory: SharedObject) -> None:
    body = {"key": memory.key, "byte_size": 8}
    for name in ("/v2/systemsharedmemory/register", f"/v2/systemsharedmemory/region/{'x' * 256}/register"):
        answer = machine.own.client.post(name, json=body)
        assert (answer.status_code, "A region needs a name" in answer.json()["error"]) == (400, True)


def test_a_key_that_may_not_predict_may_not_register_either(asker: Asker, memory: SharedObject) -> None:
    client = asker[1]
    for call in (
        lambda: client.register_system_shared_memory("x", memory.key, 8, **keyed(READER)),
        lambda: client.unregister_system_shared_memory(**keyed(READER)),
        lambda: client.get_system_shared_memory_status(**keyed(READER)),
    ):
        with pytest.raises(InferenceServerException, match="lacks the scope predict"):
            call()
    with pytest.raises(InferenceServerException, match="An API key is needed"):
        client.get_system_shared_memory_status()


@pytest.mark.parametrize("environ", [{"SIGNALBOX_SHARED_MEMORY": "off"}, {"SIGNALBOX_PUBLIC_PREDICT_URL": "https://predict.example.org"}])
def test_where_it_is_off_it_says_by_which_setting(plane: Plane, tmp_path: Path, memory: SharedObject, environ: dict[str, str]) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    plane.environ = environ
    plane.start()
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{plane.port}") as client:
        for call in (
            lambda: client.register_system_shared_memory("r", memory.key, 8, **keyed()),
            lambda: client.infer("sum", rows_at(tritonclient.http, "r"), **keyed()),
            lambda: client.infer("sum", rows_in_body(tritonclient.http), outputs=sums_to(tritonclient.http, "r"), **keyed()),
        ):
            with pytest.raises(InferenceServerException, match="set SIGNALBOX_SHARED_MEMORY=on") as refused:
                call()
            assert refused.value.status() == "501"
        assert client.get_system_shared_memory_status(**keyed()) == []
        client.unregister_system_shared_memory(**keyed())
        assert "system_shared_memory" not in client.get_server_metadata()["extensions"]
    assert not (tmp_path / "run" / "regions.json").exists()


def _kept(plane: Plane) -> Path:
    return plane.var_dir / "run" / "regions.json"


def test_a_process_that_holds_the_lock_delays_registering_alone(machine: Machine, rest: Any, memory: SharedObject) -> None:
    memory.put([ROWS])
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    body = {"key": memory.key, "byte_size": 8}
    answers: list[tuple[int, str]] = []

    def register(plane: Plane) -> None:
        answer = plane.client.post("/v2/systemsharedmemory/region/late/register", json=body)
        answers.append((answer.status_code, answer.text))

    planes = (machine.own, machine.plain)
    with _kept(machine.own).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threads = [threading.Thread(target=register, args=(plane,)) for plane in planes]
        for thread in threads:
            thread.start()
        for module, client in machine.askers():
            for _ in range(5):  # a loop that waits for the lock answers nobody
                assert client.infer("sum", rows_at(module, "r"), **keyed()).as_numpy("prediction").tolist() == SUMS
            client.close()
        for thread in threads:
            thread.join()
        assert machine.own.client.post("/v2/systemsharedmemory/region/r/unregister").status_code == 503
    assert [(status, "is changing regions.json" in text) for status, text in answers] == [(503, True)] * 2
    assert [region["name"] for region in rest.get_system_shared_memory_status(**keyed())] == ["r"]
    assert machine.own.client.post("/v2/systemsharedmemory/region/late/register", json=body).status_code == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
def test_by_itself_it_is_not_offered_to_what_a_proxy_passes_on(asker: Asker, rest: Any, memory: SharedObject, header: str) -> None:
    module, client = asker
    memory.put([ROWS])
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())

    def passed_on() -> dict[str, Any]:
        return {"headers": {"x-api-key": KEY, header: "192.0.2.7"}}

    for call in (
        lambda: client.register_system_shared_memory("s", memory.key, 8, **passed_on()),
        lambda: client.infer("sum", rows_at(module, "r"), **passed_on()),
        lambda: client.infer("sum", rows_in_body(module), outputs=sums_to(module, "r", offset=100), **passed_on()),
    ):
        with pytest.raises(InferenceServerException, match=r"came through a proxy.* set SIGNALBOX_SHARED_MEMORY=on") as refused:
            call()
        assert refused.value.status() in ("501", "StatusCode.UNIMPLEMENTED")
    assert memory.get(np.float32, [2, 1], 100).tolist() == [[0], [0]]
    assert [region["name"] for region in rest.get_system_shared_memory_status(**keyed())] == ["r"]
    assert client.infer("sum", rows_in_body(module), **passed_on()).as_numpy("prediction").tolist() == SUMS
    assert client.infer("sum", rows_at(module, "r"), **keyed()).as_numpy("prediction").tolist() == SUMS


def test_where_it_is_on_it_is_offered_behind_a_proxy_too(plane: Plane, memory: SharedObject) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    plane.environ = {"SIGNALBOX_SHARED_MEMORY": "on"}
    plane.start()
    memory.put([ROWS])
    passed_on = {"headers": {"x-api-key": KEY, "x-forwarded-for": "192.0.2.7"}}
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{plane.port}") as client:
        client.register_system_shared_memory("r", memory.key, 4096, **passed_on)
        assert client.infer("sum", rows_at(tritonclient.http, "r"), **passed_on).as_numpy("prediction").tolist() == SUMS


@pytest.mark.parametrize(
    ("boot", "revision", "known", "left"),
    [
        ("", 1, {"old"}, {"new", "old"}),  # of a key that is gone: dropped when something is registered
        ("", 2, {"old"}, {"new", "old", "of another"}),  # written by a process with a newer table, which may know more keys
        ("of before", 1, set(), {"new"}),
    ],
)
def test_regions_last_as_long_as_the_machine_and_their_keys(
    plane: Plane, memory: SharedObject, boot: str, revision: int, known: set[str], left: set[str]
) -> None:
    one = models.regressor(plane.artifacts)
    plane.keep(table([one], [endpoint("sum", one)]))
    kept, region = _kept(plane), [memory.key, 0, 8]
    kept.parent.mkdir(parents=True)
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    kept.write_text(json.dumps({"boot": boot, "revision": revision, "keys": {KEY_ENTRY.id: {"old": region}, "another": {"of another": region}}}))
    plane.start()
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{plane.port}") as client:
        assert {each["name"] for each in client.get_system_shared_memory_status(**keyed())} == known
        client.register_system_shared_memory("new", memory.key, 8, **keyed())
        assert {each["name"] for each in client.get_system_shared_memory_status(**keyed())} == known | {"new"}
    assert {name for own in json.loads(kept.read_text())["keys"].values() for name in own} == left
