"""The Open Inference Protocol over both transports: answers, and every kind of refusal with the connection kept."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from tests.dataplane import standing as keys
from tests.dataplane.conftest import HEADERS, KEY, Plane

ROW = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
BODY = {"inputs": [ROW]}


def infer(plane: Plane, body: Any = BODY, endpoint: str = "sum", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return plane.client.post(f"/v2/models/{endpoint}/infer", content=content, headers=headers)


def with_row(**changes: Any) -> dict[str, Any]:
    return {"inputs": [ROW | changes]}


def test_answers_rows_with_the_outputs_the_ids_and_the_slot(standing: Plane) -> None:
    answer = infer(standing, {"id": "mine", "inputs": [ROW | {"shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}]})
    document = answer.json()
    identifier = document["parameters"].pop("prediction_id")
    assert document == {
        "model_name": "sum",
        "model_version": "1",
        "parameters": {"slot": "blue"},
        "id": "mine",
        "outputs": [{"name": "prediction", "datatype": "FP32", "shape": [2, 1], "data": [321.0, 654.0]}],
    }
    assert answer.headers["signalbox-prediction-id"] == identifier
    assert (answer.headers["signalbox-slot"], answer.headers["signalbox-version"]) == ("blue", "1")


def test_no_id_is_invented(standing: Plane) -> None:
    assert "id" not in infer(standing).json()


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_needs_no_key(standing: Plane, path: str) -> None:
    document = httpx.get(standing.url + path).json()
    assert document["name"] == "signalbox"
    assert set(document["extensions"]) == {
        "binary_tensor_data",
        "model_repository",
        "model_configuration",
        "statistics",
        "trace",
        "logging",
        "system_shared_memory",
    }


def test_health_needs_no_key(standing: Plane) -> None:
    assert httpx.get(f"{standing.url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{standing.url}/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_model_metadata_ready_config_and_stats(standing: Plane, version: str) -> None:
    get = standing.client.get
    metadata = get(f"/v2/models/sum{version}").json()
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]
    assert metadata["versions"] == ["1"]
    assert get(f"/v2/models/sum{version}/ready").json() == {"name": "sum", "ready": True}
    assert get(f"/v2/models/sum{version}/config").json()["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [3]}]
    assert get(f"/v2/models/sum{version}/stats").json()["model_stats"][0]["name"] == "sum"


def test_every_endpoint_is_in_the_index_and_the_statistics(standing: Plane) -> None:
    index = standing.client.post("/v2/repository/index").json()
    assert {"name": "sum", "version": "1", "state": "READY", "reason": ""} in index
    assert {"name": "empty", "version": "", "state": "UNAVAILABLE", "reason": "no model in any slot"} in index
    ready = standing.client.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["state"] for entry in ready} == {"READY"}
    assert {entry["name"] for entry in standing.client.get("/v2/models/stats").json()["model_stats"]} >= {"sum", "churn"}


@pytest.mark.parametrize(
    ("status", "text", "body"),
    [
        (400, "body is empty", b""),
        (400, "not valid JSON", b"{"),
        (400, "trailing characters", json.dumps(BODY).encode() + b"x"),
        (400, "NaN and Infinity are not JSON", json.dumps(with_row(data=[1, 2, float("nan")])).encode()),
        (400, "NaN and Infinity are not JSON", json.dumps(with_row(data=[1, 2, float("inf")])).encode()),
        (400, "out of range", json.dumps(BODY).replace("3]}", "1e400]}").encode()),
        (400, "out of range", json.dumps(with_row(data=[1, 2, 10**400])).encode()),
        (400, "not UTF-8", json.dumps(BODY).encode("utf-16")),
        (400, "not UTF-8", b'{"id":"\xff","inputs":[]}'),
        (400, "nested too deeply", b'{"more":' + b"[" * 20_000),
        (400, "nested too deeply", b'{"inputs":[{"name":"input","shape":[1,3],"datatype":"FP32","data":' + b"[" * 20_000 + b"]" * 20_000 + b"}]}"),
        (400, "comes twice", b'{"inputs":[],"inputs":' + json.dumps([ROW]).encode() + b"}"),
        (400, "comes twice", b'{"inputs":[],"\\u0069nputs":' + json.dumps([ROW]).encode() + b"}"),
        (400, "comes twice", json.dumps(BODY).replace('"data"', '"data":[1,2,3],"data"').encode()),
        (400, "not a valid request: the field `inputs` is missing.", b"{}"),
        (400, "not a valid request: it takes an object, not an array.", b"[]"),
        (400, "expected 1 inputs but got 0", {"inputs": []}),
        (400, "comes twice", {"inputs": [ROW, ROW]}),
        (400, "unexpected inference input 'y' for model 'sum'", with_row(name="y")),
        (400, "data-type is 'FP64', but model 'sum' expects 'FP32'", with_row(datatype="FP64")),
        (400, "unexpected shape for input 'input' for model 'sum'. Expected [-1,3], got [1,9]", with_row(shape=[1, 9], data=[0] * 9)),
        (400, "Expected [-1,3], got [3]", with_row(shape=[3])),
        (400, "has no rows", with_row(shape=[0, 3], data=[])),
        (400, "`inputs[0].shape[0]` takes a whole number >= 0.", with_row(shape=[-1, 3])),
        (400, "3 values, the data has 2", with_row(data=[1, 2])),
        (400, "nesting of the data does not follow its shape", with_row(data=[[1, 2], [3]])),
        (400, "Input 'input' of model 'sum', row 0, column 2 takes a number or null, not a text.", with_row(data=[1, 2, "3"])),
        (400, "row 0, column 2 takes a number or null, not a boolean.", with_row(data=[1, 2, True])),
        (400, "must be an array", with_row(data="1,2,3")),
        (400, "there is no data", {"inputs": [{key: value for key, value in ROW.items() if key != "data"}]}),
        (
            400,
            "row 0, feature 'c': nan is refused: a number is missing (null or NaN), and the model takes none missing. The endpoint's policy for",
            with_row(data=[1, 2, None]),
        ),
        (400, "not finite or too large", with_row(data=[1, 2, 1e300])),
        (400, "unexpected inference output 'z' for model 'sum'", BODY | {"outputs": [{"name": "z"}]}),
        (400, "asked for twice", BODY | {"outputs": [{"name": "prediction"}] * 2}),
        (413, "has 51 rows, at most 50", with_row(shape=[51, 3], data=[0] * 153)),
        (413, "at most 100000", b" " * 100_001),
        (413, "at most 100000", b" " * 5_000_000),
    ],
)
def test_refuses_and_keeps_the_connection(standing: Plane, status: int, text: str, body: Any) -> None:
    with httpx.Client(base_url=standing.url, headers=HEADERS, limits=httpx.Limits(max_connections=1)) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = client.post("/v2/models/sum/infer", content=content)
        stream = answer.extensions["network_stream"].get_extra_info("socket").getsockname()
        assert answer.status_code == status
        assert text in answer.json()["error"], answer.text
        assert list(answer.json()) == ["error"]
        good = client.post("/v2/models/sum/infer", json=BODY)
        assert good.json()["outputs"][0]["data"] == [321.0]
        assert good.extensions["network_stream"].get_extra_info("socket").getsockname() == stream


@pytest.mark.parametrize(
    ("status", "text", "method", "path"),
    [
        (404, "Request for unknown model: 'nix' is not found", "POST", "/v2/models/nix/infer"),
        (404, "Request for unknown model: 'nix' is not found", "GET", "/v2/models/nix"),
        (404, "'sum' version 7 is not found. Versions in its slots: 1", "POST", "/v2/models/sum/versions/7/infer"),
        (404, "'sum' version 7 is not found", "GET", "/v2/models/sum/versions/7/ready"),
        (404, "There is no /nowhere here", "GET", "/nowhere"),
        (405, "GET is not allowed on /v2/models/sum/infer. Use POST", "GET", "/v2/models/sum/infer"),
        (405, "DELETE is not allowed on /v2", "DELETE", "/v2"),
        (503, "has no slot with traffic", "POST", "/v2/models/empty/infer"),
        (503, "has no model", "GET", "/v2/models/empty"),
        (501, "CUDA shared memory, since models run on the processor, is not supported", "POST", "/v2/cudasharedmemory/region/x/register"),
        (403, "lacks the scope operate", "POST", "/v2/repository/models/sum/load"),
    ],
)
def test_errors_of_paths_have_the_protocols_form(standing: Plane, status: int, text: str, method: str, path: str) -> None:
    answer = standing.client.request(method, path, json=BODY if method == "POST" else None)
    assert answer.status_code == status
    assert text in answer.json()["error"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize(
    ("status", "text", "headers"),
    [
        (401, "An API key is needed", {}),
        (401, "does not have the form", {"Authorization": "Bearer sbx_nonsense"}),
        (401, "does not have the form", {"Authorization": f"Bearer {KEY[:-1]}"}),
        (401, "is not known, or was revoked", {"Authorization": f"Bearer {keys.UNKNOWN}"}),
        (401, "has expired", {"X-API-Key": keys.EXPIRED}),
        (403, "is not for the endpoint 'sum'", {"X-API-Key": keys.ELSEWHERE}),
        (403, "lacks the scope predict", {"X-API-Key": keys.READER}),
        (200, "", {"X-API-Key": KEY}),
        (200, "", {"Authorization": f"bearer {KEY}"}),
    ],
)
def test_keys_are_checked(standing: Plane, status: int, text: str, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{standing.url}/v2/models/sum/infer", json=BODY, headers=headers)
    assert answer.status_code == status
    assert text in answer.json().get("error", "")
    assert httpx.get(f"{standing.url}/v2/models/sum", headers=headers).status_code == status


def test_a_key_without_the_endpoint_does_not_see_it_in_the_index(standing: Plane) -> None:
    index = httpx.post(f"{standing.url}/v2/repository/index", headers={"X-API-Key": keys.ELSEWHERE}).json()
    assert {entry["name"] for entry in index} == {"churn"}


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_need_the_console_and_say_so(standing: Plane, verb: str) -> None:
    refused = httpx.post(f"{standing.url}/v2/repository/models/sum/{verb}", headers={"X-API-Key": keys.OPERATOR}, json={})
    text = f"The console at http://127.0.0.1:1 does not answer (ConnectError), and only it can {verb} 'sum'. Nothing is known to have changed."
    assert (refused.status_code, refused.json()) == (503, {"error": text})
    assert standing.client.get("/v2/models/sum/ready").status_code == 200


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "AAAA"}])
def test_nobodys_file_or_configuration_is_loaded(standing: Plane, parameters: dict[str, str]) -> None:
    refused = httpx.post(f"{standing.url}/v2/repository/models/sum/load", headers={"X-API-Key": keys.OPERATOR}, json={"parameters": parameters})
    assert (refused.status_code, "cannot be loaded with files or a configuration" in refused.json()["error"]) == (400, True)


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed(standing: Plane, name: str, pack: Any) -> None:
    packed = pack(json.dumps(BODY).encode())
    assert infer(standing, packed, **{"Content-Encoding": name}).json()["outputs"][0]["data"] == [321.0]


def test_refuses_bad_compression(standing: Plane) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    good = gzip.compress(json.dumps(BODY).encode())
    for status, text, encoding, body in [
        (413, "when unpacked", "gzip", bomb),
        (400, "not valid gzip", "gzip", b"nonsense"),
        (400, "cut off", "gzip", good[:-4]),
        (400, "follows its end", "gzip", good + b"x"),
        (415, "'br' is not known", "br", b"x"),
    ]:
        answer = infer(standing, body, **{"Content-Encoding": encoding})
        assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("key", "size", "text"),
    [
        (keys.SMALL, 2001, "the API key {} may send at most 2000 bytes"),
        (keys.MEDIUM, 80_001, "the API key {} may send at most 80000 bytes"),
        (keys.MEDIUM, 5_000_000, "the API key {} may send at most 80000 bytes"),
        (keys.WIDE, 100_001, "'sum' takes at most 100000 bytes"),
        (KEY, 100_001, "'sum' takes at most 100000 bytes"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_narrower_limit_of_a_body_holds_and_says_whose_it_is(standing: Plane, key: str, size: int, text: str, chunked: bool) -> None:
    def padded(size: int) -> bytes:
        return json.dumps(BODY).encode().ljust(size)

    def pieces(body: bytes) -> Iterator[bytes]:
        yield from (body[at : at + 30_000] for at in range(0, len(body), 30_000))

    limit = int(text.split(" at most ")[1].split(maxsplit=1)[0])
    expected = "The body is too large: " + text.format(key.split("_")[1]) + ". Send fewer rows at once."
    with httpx.Client(base_url=standing.url, headers={"X-API-Key": key}) as client:
        for length in (limit, size, limit):  # also under a head that the connection knows, and after a refusal
            content: Any = pieces(padded(length)) if chunked else padded(length)
            answer = client.post("/v2/models/sum/infer", content=content)
            found = (answer.status_code, answer.json().get("error"))
            assert found == ((413, expected) if length == size else (200, None))


def test_a_keys_limit_of_a_body_holds_unpacked(standing: Plane) -> None:
    packed = gzip.compress(json.dumps(BODY).encode().ljust(2001))
    for key, whose in ((keys.SMALL, f"2000 bytes when unpacked, the API key {keys.SMALL.split('_')[1]}'s limit"), (keys.MEDIUM, "")):
        answer = httpx.post(f"{standing.url}/v2/models/sum/infer", content=packed, headers={"X-API-Key": key, "Content-Encoding": "gzip"})
        assert (answer.status_code, whose in answer.text) == (413 if whose else 200, True)
    bomb = gzip.compress(bytes(200_000))
    answer = httpx.post(f"{standing.url}/v2/models/sum/infer", content=bomb, headers={"X-API-Key": keys.WIDE, "Content-Encoding": "gzip"})
    assert (answer.status_code, "100000 bytes when unpacked, the endpoint's limit" in answer.text) == (413, True)


def test_a_keys_deadline_holds_where_it_is_the_shorter_one(standing: Plane) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [2]}]}
    late = httpx.post(f"{standing.url}/v2/models/slow/infer", json=body, headers={"X-API-Key": keys.HASTY}, timeout=30)
    text = f"'slow' did not answer in time. Send fewer rows, or raise the API key {keys.HASTY.split('_')[1]}'s timeout."
    assert (late.status_code, late.json()["error"]) == (504, text)
    assert httpx.post(f"{standing.url}/v2/models/slow/infer", json=body, headers={"X-API-Key": keys.WIDE}, timeout=30).status_code == 200
    assert httpx.post(f"{standing.url}/v2/models/sum/infer", json=BODY, headers={"X-API-Key": keys.HASTY}).status_code == 200


def test_large_answers_are_compressed_if_the_client_likes(standing: Plane) -> None:
    body = {"inputs": [ROW | {"shape": [500, 3], "data": [0.123 * n for n in range(1500)]}]}
    plain = infer(standing, body, endpoint="shadowed", **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for encoding in ("gzip", "deflate"):
        packed = infer(standing, body, endpoint="shadowed", **{"Accept-Encoding": encoding})
        assert packed.headers["content-encoding"] == encoding
        assert packed.json()["outputs"] == plain.json()["outputs"]
        assert int(packed.headers["content-length"]) < len(plain.content)


def test_binary_and_json_tensors_mix(standing: Plane) -> None:
    ages = np.array([[20], [40]], "<f4").tobytes()
    head = json.dumps(
        {
            "inputs": [
                {"name": "plan", "shape": [2, 1], "datatype": "BYTES", "data": ["free", "gold"]},
                {"name": "age", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": len(ages)}},
            ],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}],
        }
    ).encode()
    answer = infer(standing, head + ages, "churn", **{"Inference-Header-Content-Length": str(len(head))})
    length = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:length])
    assert document["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["no", "yes"]},
    ]
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == [0.75, 0.25, 0.25, 0.75]


def test_a_raw_binary_request_is_answered_in_binary(standing: Plane) -> None:
    answer = infer(standing, np.array([[1, 2, 3]], "<f4").tobytes(), **{"Inference-Header-Content-Length": "0"})
    assert np.frombuffer(answer.content[int(answer.headers["inference-header-content-length"]) :], "<f4").tolist() == [321.0]


@pytest.mark.parametrize(
    ("text", "size", "tail", "length"),
    [
        ("is 12 bytes, got 8", 8, bytes(8), None),
        ("only 8 bytes are left", 12, bytes(8), None),
        ("add up to 12", 12, bytes(13), None),
        ("must be a whole number of bytes, not True", True, bytes(12), None),
        ("Inference-Header-Content-Length is '999999'", 12, bytes(12), "999999"),
        ("Inference-Header-Content-Length is '-1'", 12, bytes(12), "-1"),
        ("needs the header", 12, b"", ""),
    ],
)
def test_refuses_wrong_binary_sizes(standing: Plane, text: str, size: Any, tail: bytes, length: str | None) -> None:
    head = json.dumps({"inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}]}).encode()
    headers = {} if length == "" else {"Inference-Header-Content-Length": length or str(len(head))}
    answer = infer(standing, head + tail, **headers)
    assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


def test_refuses_cut_off_and_wrong_strings(standing: Plane) -> None:
    for text, data in [("cut off", struct.pack("<I", 9) + b"free"), ("not UTF-8", struct.pack("<I", 1) + b"\xff"), ("bytes have 0", b"")]:
        head = json.dumps(
            {
                "inputs": [
                    {"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [1]},
                    {"name": "plan", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}},
                ]
            }
        ).encode()
        answer = infer(standing, head + data, "churn", **{"Inference-Header-Content-Length": str(len(head))})
        assert (answer.status_code, text in answer.json()["error"]) == (400, True), answer.text


def test_the_content_type_does_not_matter(standing: Plane) -> None:
    for kind in ("text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "nonsense"):
        assert infer(standing, **{"Content-Type": kind}).status_code == 200


def test_chunked_bodies_and_expect_continue_are_taken(standing: Plane) -> None:
    body = json.dumps(BODY).encode()
    answer = standing.client.post("/v2/models/sum/infer", content=iter([body[:10], body[10:]]))
    assert answer.json()["outputs"][0]["data"] == [321.0]
    assert infer(standing, Expect="100-continue").status_code == 200


def test_pipelined_requests_are_answered_in_order(standing: Plane) -> None:
    def request(first: float) -> bytes:
        body = json.dumps(with_row(data=[first, 0, 0])).encode()
        head = f"POST /v2/models/sum/infer HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = request(4).replace(b"Host: x", b"Host: x\r\nConnection: close")
    with socket.create_connection(("127.0.0.1", standing.port)) as sock:
        sock.sendall(request(1) + request(2) + live + request(3) + live + last)
        received = b"".join(iter(lambda: sock.recv(65_536), b""))
    found = [received.index(text) for text in (b'"data":[1.0]', b'"data":[2.0]', b'"live"', b'"data":[3.0]', b'"data":[4.0]')]
    assert found == sorted(found)
    assert received.count(b"HTTP/1.1 200 OK") == 6


def test_a_head_that_is_known_is_answered_however_its_request_is_cut(standing: Plane) -> None:
    """The bytes of a head that came before are not parsed again: whole, split, joined and with a bad body they must mean the same."""

    def request(text: str) -> bytes:
        return f"POST /v2/models/sum/infer HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()

    texts = [json.dumps(with_row(data=[number, 0, 0])) for number in range(1, 10)]
    with socket.create_connection(("127.0.0.1", standing.port)) as sock:
        received = sock.makefile("rb")

        def answer() -> tuple[int, dict[str, Any]]:
            status = int(received.readline().split()[1])
            lines = dict(line.split(b": ", 1) for line in iter(received.readline, b"\r\n"))
            return status, json.loads(received.read(int(lines[b"content-length"])))

        def data() -> Any:
            status, document = answer()
            return status, document["outputs"][0]["data"] if status == 200 else document["error"]

        for text in texts[:2]:
            sock.sendall(request(text))
            assert data() == (200, [float(json.loads(text)["inputs"][0]["data"][0])])
        whole = request(texts[2])
        for cut in (5, whole.index(b"\r\n\r\n") + 2, whole.index(b"\r\n\r\n") + 4, len(whole) - 3):
            sock.sendall(whole[:cut])
            time.sleep(0.05)
            sock.sendall(whole[cut:])
            assert data() == (200, [3.0])
        sock.sendall(request(texts[3]) + request(texts[4]) + request(texts[5])[:50])
        assert (data(), data()) == ((200, [4.0]), (200, [5.0]))
        sock.sendall(request(texts[5])[50:])
        assert data() == (200, [6.0])
        sock.sendall(request("x" * len(texts[6])))
        status, text = data()
        assert (status, "not valid JSON" in text) == (400, True)
        sock.sendall(request(texts[7]))
        assert data() == (200, [8.0])
        sock.sendall(whole[: whole.index(b"\r\n\r\n") + 4] + b"{")
        time.sleep(0.05)
        sock.sendall(request(texts[2])[whole.index(b"\r\n\r\n") + 5 :])
        assert data() == (200, [3.0])
        sock.sendall(b"nonsense instead of a request\r\n\r\n")
        assert received.readline().startswith(b"HTTP/1.1 400")


def test_nonsense_instead_of_http_gets_an_answer(standing: Plane) -> None:
    with socket.create_connection(("127.0.0.1", standing.port)) as sock:
        sock.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_heavy_model_keeps_nobody_waiting_also_when_it_fails_on_a_batch(standing: Plane) -> None:
    """If the first runs alone, the three behind it form a batch that fails, and then run alone as well."""
    for _ in range(12):
        finished, between = _heavy_and_light(standing)
        assert sorted(finished) == [(1, 200), (2, 200), (3, 200), (2000, 500)]
        assert between[0] > 0, between  # light answers before the heavy ones,
        first, _ = finished[0]
        if first == 1 and sum(between[2:4]) > 0:  # and between those that run again
            return
    raise AssertionError(f"{between} light answers before and between {finished}")


def _heavy_and_light(plane: Plane) -> tuple[list[tuple[float, int]], list[int]]:
    """Ask four times for what takes long, and meanwhile for what does not; gives the answers in order, and how many light ones came before each."""
    finished: list[tuple[float, int]] = []
    between = [0]

    def ask_heavy(value: float) -> None:
        body = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}
        answer = httpx.post(f"{plane.url}/v2/models/heavy/infer", json=body, headers=HEADERS, timeout=20)
        assert answer.status_code == 200 or "The model failed" in answer.json()["error"]
        finished.append((value, answer.status_code))

    def ask_light() -> None:
        before = len(finished)
        assert infer(plane).status_code == 200
        between.extend([0] * (len(finished) - before))
        between[-1] += 1

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask_heavy, 1)]
        ask_light()
        asking += [threads.submit(ask_heavy, value) for value in (2000, 2, 3)]
        while not all(future.done() for future in asking):
            ask_light()
        for future in asking:
            future.result()
    return finished, between


def test_a_deadline_passes_with_504_and_too_many_at_once_are_503(standing: Plane) -> None:
    body = {"inputs": [{"name": "input", "shape": [1, 1], "datatype": "FP32", "data": [2]}]}
    late = infer(standing, body | {"parameters": {"timeout": 1000}}, "slow")
    assert (late.status_code, "did not answer in time" in late.json()["error"]) == (504, True)
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: httpx.post(f"{standing.url}/v2/models/slow/infer", json=body, headers=HEADERS, timeout=20), range(12)))
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all("is busy" in answer.json()["error"] and answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)
    assert all(answer.json()["outputs"][0]["data"] == [4.0] for answer in answers if answer.status_code == 200)
