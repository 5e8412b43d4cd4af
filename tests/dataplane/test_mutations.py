"""Valid requests, changed at random in their structure and their bytes: none gets a 5xx, the good request after it is answered, and the memory is flat.

The same examples each time. ``SIGNALBOX_FUZZ_EXAMPLES=200000`` tries that many of each kind, other ones in each run.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dataplane.conftest import KEY, Plane, resident_bytes
from tests.dataplane.hostile_bodies import GOOD_ANSWER, GOOD_BODY, INFER, INVOCATIONS, PREDICT, ROW, TEXTS, binary, chunk, chunked, dumped, http, sized
from tests.dataplane.test_hostile import Connection

EXAMPLES = int(os.environ.get("SIGNALBOX_FUZZ_EXAMPLES", "200"))
TENSOR = {"name": "plan", "shape": [2, 1], "datatype": "BYTES", "data": ["free", "gold"]}
DOCUMENTS: dict[str, Any] = {
    INFER: {"id": "1", "parameters": {"timeout": 900_000, "sticky_key": "k"}, "inputs": [ROW], "outputs": [{"name": "prediction", "parameters": {}}]},
    TEXTS: {"inputs": [TENSOR, {"name": "age", "shape": [2, 1], "datatype": "FP32", "data": [[1], [None]]}], "parameters": {"binary_data_output": True}},
    PREDICT: {"id": "1", "sticky_key": "k", "rows": [{"age": 41, "plan": "gold"}, {"plan": "free"}], "parameters": {"timeout": 900_000}},
    "/v2/models/counts/predict": {"rows": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]},
    "/v2/models/whole/predict": {"rows": [{"a": 1, "b": 2, "c": 3}]},
    "/v2/models/clipped/predict": {"rows": [{"a": 1, "b": 2, "c": 3}]},
    INVOCATIONS: {"dataframe_split": {"columns": ["age", "plan"], "data": [[40, "free"], [None, "gold"]]}},
    f"{INVOCATIONS}?": {"inputs": {"age": [40, None], "plan": ["free", "gold"]}},
    "/v2/repository/index": {"ready": True},
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, 2**64, -1, 0, 10**39, int("9" * 320), 1e308, 5e-324, "", "\x00", "NaN", "\u202e", "a" * 3000]),
    st.floats(allow_nan=False),
    st.text(max_size=12),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of each value in a document."""
    yield path
    for key in document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        yield from places(document[key], (*path, key))


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None], value: Any) -> Any:
    """Give a copy of ``document`` with the value at ``path`` changed; at the top it is replaced."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return copy


@st.composite
def structures(draw: Any) -> tuple[str, Any]:
    """A good document with up to three of its values replaced, removed, doubled or swapped for another's."""
    path = draw(st.sampled_from(sorted(DOCUMENTS)))
    document = DOCUMENTS[path]
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(list(places(document))))
        value = draw(VALUES | st.sampled_from([json.loads(json.dumps(_at(document, other))) for other in places(document)]))
        kind = draw(st.sampled_from(["replace", "remove", "double"]))

        def change(holder: Any, key: Any, kind: str = kind, value: Any = value) -> None:
            if kind == "replace":
                holder[key] = value
            elif kind == "remove":
                del holder[key]
            elif isinstance(holder, list):
                holder.insert(key, holder[key])
            else:
                holder[f"{key}\u0131"] = holder[key]

        document = changed(document, where, change, value)
    return path, document


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


@st.composite
def broken(draw: Any, good: bytes) -> bytes:
    """``good`` with up to four pieces of it overwritten, removed, doubled or moved."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 6))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + size] = draw(st.binary(min_size=1, max_size=6))
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size * 8]
            case _:
                data[at:at] = draw(st.sampled_from([b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"]", b",", b"\xff", b"\x00", b"1e999", b"-", b"\r\n"]))
    return bytes(data)


_FLOATS = struct.pack("<3f", 1, 2, 3)
_STRINGS = struct.pack("<I4sI4s", 4, b"free", 4, b"gold")
_MIXED = {"inputs": [{"name": "age", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}, TENSOR | {"parameters": {"binary_data_size": len(_STRINGS)}}]}
del _MIXED["inputs"][1]["data"]  # type: ignore[attr-defined]  # the dict above
_SEEDS = [
    http(),
    binary(sized(12), _FLOATS),
    binary(_MIXED, _STRINGS, path=TEXTS),
    binary(b"", _FLOATS, "0"),
    http(gzip.compress(GOOD_BODY), Content_Encoding="gzip"),
    http(b"age,plan\r\n1,free\r\n,gold\r\n", INVOCATIONS, Content_Type="text/csv"),
    *(http(dumped(document), path) for path, document in DOCUMENTS.items()),
]
BODIES = st.sampled_from(_SEEDS).flatmap(lambda seed: broken(seed.partition(b"\r\n\r\n")[2]).map(lambda body: _with_body(seed, body)))
HEADS = st.sampled_from([*_SEEDS, chunked(chunk(GOOD_BODY[:9]), chunk(GOOD_BODY[9:]), b"0\r\n\r\n")]).flatmap(broken)
SIZES = st.tuples(st.one_of(st.integers(-2, 40), st.sampled_from([2**31, 2**63, "12", 12.0])), st.binary(max_size=30), st.integers(0, 200)).map(
    lambda parts: binary(sized(parts[0]), parts[1], str(parts[2]))
)


def _with_body(seed: bytes, body: bytes) -> bytes:
    """Put another body under a head and correct its length."""
    head = seed.partition(b"\r\n\r\n")[0]
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


class Asker:
    """Sends requests over one kept connection, and makes a new one when the server has closed it."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._connection = Connection(plane.port)

    def ask(self, raw: bytes) -> None:
        """Send a request with an honest length: it is answered, and so is the good one after it on the same connection."""
        reply = self._connection.ask(raw)
        assert reply.status in (200, 400, 413, 415, 504), (reply.status, reply.body[:500], raw)
        if reply.status != 200:
            assert list(reply.document) == ["error"]
        assert self._connection.ask(http()).document["outputs"][0]["data"] == GOOD_ANSWER

    def throw(self, raw: bytes) -> None:
        """Send what may be no HTTP at all and go: the next one is served, and nothing that was answered is a 5xx."""
        with Connection(self._plane.port) as connection:
            connection.sock.sendall(raw)
            connection.sock.shutdown(1)
            answered = b"".join(iter(lambda: connection.sock.recv(65_536), b""))
        assert b"HTTP/1.1 5" not in answered.replace(b"HTTP/1.1 501", b"").replace(b"HTTP/1.1 504", b"").replace(b"HTTP/1.1 503", b""), (answered, raw)
        assert self._connection.ask(http()).document["outputs"][0]["data"] == GOOD_ANSWER


@pytest.fixture(scope="module")
def asker(standing: Plane) -> Iterator[Asker]:
    before, memory_bytes = len(standing.log_text()), resident_bytes(standing)
    yield Asker(standing)
    written = standing.log_text()[before:]
    assert "Traceback" not in written, written[-5000:]
    assert resident_bytes(standing) - memory_bytes < 64 * 2**20


fuzz = settings(
    max_examples=EXAMPLES,
    derandomize="SIGNALBOX_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzz
@given(case=structures())
def test_documents_with_other_values(asker: Asker, case: tuple[str, Any]) -> None:
    path, document = case
    asker.ask(http(dumped(document), path))


@fuzz
@given(case=structures())
def test_compressed_documents_with_other_values(asker: Asker, case: tuple[str, Any]) -> None:
    path, document = case
    asker.ask(http(gzip.compress(dumped(document), 1), path, Content_Encoding="gzip", Accept_Encoding="gzip"))


@fuzz
@given(raw=BODIES)
def test_bodies_with_other_bytes(asker: Asker, raw: bytes) -> None:
    asker.ask(raw)


@fuzz
@given(raw=SIZES)
def test_binary_sizes(asker: Asker, raw: bytes) -> None:
    asker.ask(raw)


@fuzz
@given(raw=HEADS)
def test_requests_with_other_bytes(asker: Asker, raw: bytes) -> None:
    asker.throw(raw)


@fuzz
@given(
    names=st.lists(
        st.tuples(st.text("abcXYZ-_0189", min_size=1, max_size=12), st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\x00"), max_size=40)),
        max_size=12,
    )
)
def test_any_headers(asker: Asker, names: list[tuple[str, str]]) -> None:
    own = ("content-length", "transfer-encoding", "x-api-key", "host")
    asker.throw(
        http(Signalbox_Sticky_Key=KEY[:9]).replace(
            b"Host: x", b"\r\n".join([b"Host: x", *(f"{n}: {v}".encode("latin-1") for n, v in names if n.lower() not in own)])
        )
    )
