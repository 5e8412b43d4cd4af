"""Hostile requests by name: the bytes that go out, the status that must come back, and whether the connection lives on."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.dataplane.conftest import KEY

ROW = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
GOOD_BODY = json.dumps({"inputs": [ROW]}).encode()
GOOD_ANSWER = [321.0]
INFER = "/v2/models/sum/infer"
PREDICT = "/v2/models/churn/predict"
INVOCATIONS = "/v2/models/churn/invocations"
TEXTS = "/v2/models/churn/infer"


@dataclass(frozen=True)
class Hostile:
    """One request. ``kept``: the connection can be used again; ``once``: too large to be sent thousands of times."""

    name: str
    raw: bytes
    status: int
    text: str = ""
    kept: bool = True
    once: bool = False


def http(body: bytes = GOOD_BODY, path: str | bytes = INFER, *, method: str = "POST", version: str = "1.1", length: str | None = "", **headers: str) -> bytes:
    """Write a request; ``length`` replaces the true Content-Length, None leaves it out. Underscores in names become dashes."""
    target = path if isinstance(path, bytes) else path.encode()
    lines = [method.encode() + b" " + target + b" HTTP/" + version.encode(), b"Host: x", b"X-API-Key: " + KEY.encode()]
    if length is not None:
        lines.append(b"Content-Length: " + (length or str(len(body))).encode())
    lines += [name.replace("_", "-").encode() + b": " + value.encode("latin-1") for name, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes, path: str = INFER, **headers: str) -> bytes:
    """Write a request whose body is ``chunks`` as they are, sizes and all."""
    return http(b"".join(chunks), path, length=None, Transfer_Encoding="chunked", **headers)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def tensor(**changes: Any) -> bytes:
    """Give the good request with its tensor changed; None takes a field away."""
    return dumped({"inputs": [{name: value for name, value in (ROW | changes).items() if value is not None}]})


def binary(head: Any, tail: bytes, length: str = "", path: str = INFER) -> bytes:
    """Write a request with binary tensors; ``length`` replaces the true length of its JSON."""
    text = head if isinstance(head, bytes) else dumped(head)
    return http(text + tail, path, Inference_Header_Content_Length=length or str(len(text)))


def sized(size: Any, shape: list[int] | None = None) -> dict[str, Any]:
    return {"inputs": [{"name": "input", "shape": shape or [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}]}


def rows(*records: Any, path: str = PREDICT, **more: Any) -> bytes:
    return http(dumped({"rows": list(records)} | more), path)


def texts(data: bytes, count: int = 1) -> bytes:
    """Write one binary BYTES tensor beside a JSON one."""
    age = {"name": "age", "shape": [count, 1], "datatype": "FP32", "data": [1] * count}
    plan = {"name": "plan", "shape": [count, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    return binary({"inputs": [age, plan]}, data, path=TEXTS)


def _json() -> Iterator[Hostile]:
    deep = b"[" * 45_000
    yield Hostile("empty", http(b""), 400, "body is empty")
    yield Hostile("no JSON", http(b"hello"), 400, "not valid JSON")
    yield Hostile("cut off", http(GOOD_BODY[:-3]), 400, "not valid JSON")
    yield Hostile("something after its end", http(GOOD_BODY + b"{}"), 400, "trailing")
    yield Hostile("deep nesting", http(deep), 400)
    yield Hostile("deep nesting in an unknown key", http(b'{"more":' + deep + b"]" * 45_000 + b',"inputs":[]}'), 400, "nested too deeply")
    yield Hostile("deep nesting in the data", http(GOOD_BODY.replace(b"[1, 2, 3]", deep + b"]" * 45_000)), 400)
    yield Hostile("deep objects in an unknown key", http(b'{"x":' * 5_000 + b"1" + b"}" * 5_000), 400)
    yield Hostile("a huge integer", http(GOOD_BODY.replace(b"[1, 2", b"[1, " + b"9" * 400)), 400)
    yield Hostile("an integer of 5,000 digits", http(GOOD_BODY.replace(b"[1, 2", b"[1, " + b"9" * 5_000)), 400)
    yield Hostile("1e400", http(GOOD_BODY.replace(b"[1, 2", b"[1, 1e400")), 400, "out of range")
    yield Hostile("a number of 90,000 digits", http(GOOD_BODY.replace(b"[1, 2", b"[1, 0." + b"3" * 90_000)), 200)
    yield Hostile("NaN", http(GOOD_BODY.replace(b"[1, 2", b"[1, NaN")), 400, "NaN and Infinity are not JSON")
    yield Hostile("Infinity", http(GOOD_BODY.replace(b"[1, 2", b"[1, -Infinity")), 400, "NaN and Infinity are not JSON")
    yield Hostile("UTF-16", http(GOOD_BODY.decode().encode("utf-16")), 400, "not UTF-8")
    yield Hostile("UTF-32 without a mark", http(GOOD_BODY.decode().encode("utf-32-le")), 400, "not UTF-8")
    yield Hostile("a byte order mark", http(b"\xef\xbb\xbf" + GOOD_BODY), 400)
    yield Hostile("invalid UTF-8", http(b'{"id":"\xff\xfe","inputs":[]}'), 400, "not UTF-8")
    yield Hostile("an overlong UTF-8 form", http(b'{"id":"\xc0\xaf","inputs":[]}'), 400)
    yield Hostile("a lone surrogate", http(b'{"id":"\\ud800",' + GOOD_BODY[1:]), 400)
    yield Hostile("a surrogate in UTF-8", http(b'{"id":"\xed\xa0\x80",' + GOOD_BODY[1:]), 400)
    yield Hostile("NUL in a text", http(b'{"id":"a\\u0000b",' + GOOD_BODY[1:]), 200)
    yield Hostile("a raw control character", http(b'{"id":"a\x00b",' + GOOD_BODY[1:]), 400)
    yield Hostile("a key twice", http(b'{"inputs":[],' + GOOD_BODY[1:]), 400, "comes twice")
    yield Hostile("a key twice, once escaped", http(b'{"\\u0069nputs":[],' + GOOD_BODY[1:]), 400, "comes twice")
    yield Hostile("a tensor's key twice", http(GOOD_BODY.replace(b'"shape"', b'"shape": [9, 3], "shape"')), 400, "comes twice")
    twice = b'{"parameters":{"timeout":1,"timeout":9},' + GOOD_BODY[1:]
    yield Hostile("a parameter twice", http(twice), 400, "comes twice")
    yield Hostile("a parameter twice, once escaped", http(twice.replace(b'"timeout":9', b'"\\u0074imeout":9')), 400, "comes twice")
    yield Hostile("a tensor's parameter twice", http(GOOD_BODY.replace(b'"shape"', b'"parameters":{"a":1,"a":2}, "shape"')), 400, "comes twice")
    yield Hostile("an unknown key twice", http(b'{"x":1,"x":2,' + GOOD_BODY[1:]), 400, "comes twice")
    yield Hostile("an id of 90 kB", http(b'{"id":"' + b"i" * 90_000 + b'",' + GOOD_BODY[1:]), 200)
    yield Hostile("an id that is a number", http(b'{"id":7,' + GOOD_BODY[1:]), 400, "`id` takes a text or null, not a whole number")


def _tensors() -> Iterator[Hostile]:
    for name, document in {"a list": [], "a string": "x", "a number": 1, "null": None, "nothing": {}, "inputs that are an object": {"inputs": {}}}.items():
        yield Hostile(f"{name} as the request", http(dumped(document)), 400)
    yield Hostile("no inputs", http(b'{"inputs":[]}'), 400, "expected 1 inputs but got 0")
    yield Hostile("an extra input", http(dumped({"inputs": [ROW, ROW | {"name": "more"}]})), 400, "unexpected inference input 'more'")
    yield Hostile("an input twice", http(dumped({"inputs": [ROW, ROW]})), 400, "comes twice")
    yield Hostile("400 inputs", http(dumped({"inputs": [ROW | {"name": str(number)} for number in range(400)]})), 400, "unexpected inference input")
    yield Hostile("a wrong name", http(tensor(name="nix")), 400, "unexpected inference input 'nix'")
    yield Hostile("a name of control characters", http(tensor(name="\r\nX: 1\x00\x1b[2J")), 400, "unexpected inference input")
    yield Hostile("a wrong datatype", http(tensor(datatype="FP64")), 400, "data-type is 'FP64'")
    yield Hostile("an unknown datatype", http(tensor(datatype="COMPLEX")), 400, "data-type is 'COMPLEX'")
    yield Hostile("a wrong rank", http(tensor(shape=[3])), 400, "Expected [-1,3], got [3]")
    yield Hostile("an empty shape", http(tensor(shape=[])), 400, "Expected [-1,3], got []")
    yield Hostile("10,000 dimensions", http(tensor(shape=[1] * 10_000)), 400, "Expected [-1,3]")
    yield Hostile("a negative shape", http(tensor(shape=[-1, 3])), 400, "takes a whole number >= 0")
    yield Hostile("a shape of fractions", http(tensor(shape=[1.5, 3])), 400, "`inputs[0].shape[0]` takes a whole number, not a fraction")
    yield Hostile("a shape of texts", http(tensor(shape=["1", "3"])), 400, "`inputs[0].shape[0]` takes a whole number, not a text")
    yield Hostile("an overflowing shape", http(tensor(shape=[2**63, 3])), 400)
    yield Hostile("a shape of a huge integer", http(tensor(shape=[10**300, 3])), 400)
    yield Hostile("a shape whose product overflows", http(tensor(shape=[2**62, 2**62])), 400)
    yield Hostile("more rows than the data has", http(tensor(shape=[2, 3])), 400, "6 values, the data has 3")
    yield Hostile("no rows", http(tensor(shape=[0, 3], data=[])), 400, "has no rows")
    yield Hostile("too many rows", http(tensor(shape=[51, 3], data=[0] * 153)), 413, "at most 50")
    yield Hostile("rows by the billion", http(tensor(shape=[2**40, 3])), 413, "at most 50")
    yield Hostile("uneven nesting", http(tensor(shape=[2, 3], data=[[1, 2, 3], [4, 5]])), 400, "nesting")
    yield Hostile("texts for numbers", http(tensor(data=["1", "2", "3"])), 400, "row 0, column 0 takes a number or null, not a text")
    yield Hostile("objects for numbers", http(tensor(data=[{}, {}, {}])), 400)
    yield Hostile("data that is no array", http(tensor(data={"0": 1})), 400)
    yield Hostile("no data", http(tensor(data=None)), 400, "there is no data")
    yield Hostile("a missing number", http(tensor(data=[1, 2, None])), 400, "a number is missing")
    yield Hostile("a number too large for its type", http(tensor(data=[1, 2, 1e300])), 400, "not finite or too large")
    yield Hostile("an unknown output", http(dumped({"inputs": [ROW], "outputs": [{"name": "nix"}]})), 400, "unexpected inference output 'nix'")
    yield Hostile("3,000 outputs", http(dumped({"inputs": [ROW], "outputs": [{"name": "prediction"}] * 3000})), 400, "asked for twice")
    yield Hostile("outputs that are texts", http(dumped({"inputs": [ROW], "outputs": ["prediction"]})), 400)
    for name, value in {"5,000 digits": int("9" * 400), "minus one": -1, "zero": 0, "a text": "soon", "1e300": 1e300, "true": True}.items():
        yield Hostile(f"a timeout of {name}", http(dumped({"inputs": [ROW], "parameters": {"timeout": value}})), 200)
        yield Hostile(f"a priority of {name}", http(dumped({"inputs": [ROW], "parameters": {"priority": value}})), 200)
    yield Hostile("parameters that are nested", http(dumped({"inputs": [ROW], "parameters": {"a": {"b": 1}}})), 400)
    yield Hostile("parameters that are a list", http(dumped({"inputs": [ROW], "parameters": []})), 400)
    yield Hostile("3,000 parameters", http(dumped({"inputs": [ROW], "parameters": {str(n): n for n in range(3000)}})), 200)
    yield Hostile("a sticky key of 50 kB", http(dumped({"inputs": [ROW], "parameters": {"sticky_key": "k" * 50_000}}), "/v2/models/split/infer"), 200)
    integers = {"name": "in_INT64", "shape": [1, 2], "datatype": "INT64", "data": [1, 2**63]}
    yield Hostile("an integer too large for its type", http(dumped({"inputs": [integers]}), "/v2/models/echo/infer"), 400)
    yield Hostile("a fraction for an integer", http(dumped({"inputs": [integers | {"data": [1, 1.5]}]}), "/v2/models/echo/infer"), 400)


def _binary() -> Iterator[Hostile]:
    good = struct.pack("<3f", 1, 2, 3)
    yield Hostile("a binary size too small", binary(sized(8), bytes(8)), 400, "is 12 bytes, got 8")
    yield Hostile("a binary size too large", binary(sized(2**40), good), 400, "only 12 bytes are left")
    yield Hostile("a binary size of 400 digits", binary(sized(int("9" * 400)), good), 400)
    yield Hostile("a negative binary size", binary(sized(-12), good), 400, "whole number of bytes")
    yield Hostile("a binary size that is a fraction", binary(sized(12.0), good), 400, "whole number of bytes")
    yield Hostile("a binary size that is true", binary(sized(True), good), 400, "whole number of bytes")
    yield Hostile("more bytes than the sizes", binary(sized(12), good + b"x"), 400, "add up to 12")
    yield Hostile("a binary NaN where none may be missing", binary(sized(12), struct.pack("<3f", 1, float("nan"), 3)), 400, "a number is missing")
    yield Hostile("a binary infinity", binary(sized(12), struct.pack("<3f", 1, float("inf"), 3)), 400, "not finite")
    yield Hostile("a signalling NaN", binary(sized(12), struct.pack("<3I", 0x7F800001, 0, 0)), 400, "a number is missing")
    yield Hostile("binary rows by the billion", binary(sized(12, [2**40, 3]), good), 413)
    for name, length in {"negative": "-1", "huge": "9" * 30, "too long": "999", "hex": "0x1f", "a float": "1e2", "superscript": "\xb2"}.items():
        yield Hostile(f"a header length that is {name}", binary(sized(12), good, length), 400, "Inference-Header-Content-Length is")
    yield Hostile("a header length too short", binary(sized(12), good, "20"), 400)
    yield Hostile("binary data without the header length", http(dumped(sized(12)) + good), 400)
    yield Hostile("a raw request of odd bytes", binary(b"", b"12345", "0"), 400)
    yield Hostile("an empty raw request", binary(b"", b"", "0"), 400)
    yield Hostile("a raw request for a model of two inputs", binary(b"", good, "0", TEXTS), 400, "needs a model with one input")
    for name, data in {
        "overruns": struct.pack("<I", 400) + b"free",
        "is all ones": b"\xff" * 8,
        "is cut": b"\x01\x00",
        "leads to bytes that are no UTF-8": struct.pack("<I", 2) + b"\xff\xfe",
        "leads to a surrogate": struct.pack("<I", 3) + b"\xed\xa0\x80",
        "is missing": b"",
        "is zero a thousand times": bytes(4000),
    }.items():
        yield Hostile(f"a string whose length {name}", texts(data), 400, "Input 'plan'")


def _packed() -> Iterator[Hostile]:
    packed = gzip.compress(GOOD_BODY)
    for name, status, encoding, body in [
        ("a gzip bomb", 413, "gzip", gzip.compress(bytes(20_000_000))),
        ("a deflate bomb", 413, "deflate", zlib.compress(bytes(20_000_000))),
        ("a bomb of many members", 400, "gzip", gzip.compress(b" " * 50_000) * 50),
        ("gzip that is none", 400, "gzip", GOOD_BODY),
        ("gzip with a broken middle", 400, "gzip", packed[:20] + b"\xff\xff\xff" + packed[23:]),
        ("gzip with a wrong checksum", 400, "gzip", packed[:-8] + bytes(8)),
        ("gzip that is cut off", 400, "gzip", packed[:-9]),
        ("an empty body as gzip", 400, "gzip", b""),
        ("deflate that is none", 400, "deflate", b"\x78\x9c\xff\xff"),
        ("gzip sent as deflate", 400, "deflate", packed),
        ("gzip twice, said once", 400, "gzip", gzip.compress(packed)),
        ("two encodings", 415, "gzip, gzip", gzip.compress(packed)),
        ("an unknown encoding", 415, "br", GOOD_BODY),
        ("an encoding of control characters", 415, "\x80\xff", GOOD_BODY),
    ]:
        yield Hostile(name, http(body, Content_Encoding=encoding), status)
    both = http(packed, Content_Encoding="gzip").replace(b"\r\n\r\n", b"\r\nContent-Encoding: identity\r\n\r\n", 1)
    yield Hostile("two encoding headers", both, 400)


def _rows() -> Iterator[Hostile]:
    yield Hostile("rows that are no list", http(b'{"rows":{}}', PREDICT), 400)
    yield Hostile("rows that are numbers", rows(1, 2), 400)
    yield Hostile("no named rows", rows(), 400, "no rows")
    yield Hostile("a text for a number", rows({"age": "40", "plan": "free"}), 400, "feature 'age'")
    yield Hostile("a list for a text", rows({"age": 40, "plan": ["free"]}), 400, "feature 'plan'")
    yield Hostile("an unknown feature", rows({"age": 40, "plan": "free", "__proto__": {}}), 400, "there is no feature '__proto__'")
    yield Hostile("an unknown key beside the rows", rows({"plan": "free"}, more=1), 400, "there is no field `more`")
    yield Hostile("a feature twice", http(b'{"rows":[{"plan":"free","pl\\u0061n":"gold"}]}', PREDICT), 400, "comes twice")
    yield Hostile("a number of 400 digits in a row", http(b'{"rows":[{"plan":"free","age":' + b"9" * 400 + b"}]}", PREDICT), 400)
    yield Hostile("a whole number of 400 digits", rows({"a": int("9" * 400), "b": 1, "c": 1}, path="/v2/models/whole/predict"), 400)
    yield Hostile("a whole number of 1e300", rows({"a": 1e300, "b": 1, "c": 1}, path="/v2/models/whole/predict"), 400)
    yield Hostile("a fraction for a whole number", rows({"a": 1.5, "b": 1, "c": 1}, path="/v2/models/whole/predict"), 400, "whole number")
    yield Hostile("a count of 2^64", rows({"a": 2**64, "b": 1}, path="/v2/models/counts/predict"), 400)
    yield Hostile("a count of 400 digits", rows({"a": int("9" * 400), "b": 1}, path="/v2/models/counts/predict"), 400)
    yield Hostile("a count of 1e300", rows({"a": 1e300, "b": 1}, path="/v2/models/counts/predict"), 400)
    yield Hostile("a count that is missing", rows({"b": 1}, path="/v2/models/counts/predict"), 400)
    yield Hostile("control characters in a category", rows({"plan": "\x00\x1b[2J\u202e\r\n"}), 200)
    yield Hostile("control characters where only categories pass", rows({"plan": "\x00\x1b"}, path="/v2/models/strict/predict"), 400, "is refused")
    yield Hostile("a text of 10 MB", rows({"plan": "x" * 10_000_000}), 200, once=True)
    yield Hostile("a refused text of 10 MB", rows({"plan": "x" * 10_000_000}, path="/v2/models/strict/predict"), 400, "is refused", once=True)
    yield Hostile("a binary text of 10 MB", texts(struct.pack("<I", 10_000_000) + b"y" * 10_000_000), 200, once=True)
    yield Hostile("an id of 1 MB", rows({"plan": "free"}, id="i" * 1_000_000), 200, once=True)
    yield Hostile("10,001 rows", rows(*[{"plan": "free"}] * 10_001), 413, "at most 10000", once=True)


def _mlflow() -> Iterator[Hostile]:
    for name, document in {
        "a list": [],
        "none of the forms": {"signature_name": "x"},
        "a split without data": {"dataframe_split": {"columns": ["age", "plan"]}},
        "a split with columns twice": {"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}},
        "a split with columns that are numbers": {"dataframe_split": {"columns": [1, 2], "data": [[1, 2]]}},
        "a split with short rows": {"dataframe_split": {"columns": ["age", "plan"], "data": [[1]]}},
        "a split that is a list": {"dataframe_split": []},
        "records that are numbers": {"dataframe_records": [1]},
        "mixed records": {"dataframe_records": [{"age": 1, "plan": "free"}, [1, "free"]]},
        "records that are null": {"dataframe_records": None},
        "no instances": {"instances": []},
        "empty columns": {"inputs": {"age": [], "plan": []}},
        "columns that are nested": {"inputs": {"age": [[1]], "plan": [["free"]]}},
        "columns of different lengths": {"inputs": {"age": [1, 2], "plan": ["free"]}},
        "columns that are texts": {"inputs": {"age": "12", "plan": "ab"}},
        "a number of 400 digits": {"instances": [[int("9" * 400), "free"]]},
    }.items():
        yield Hostile(f"invocations: {name}", http(dumped(document), INVOCATIONS), 400)
    yield Hostile("invocations: a key twice", http(b'{"instances":[[1,"free"]],"instances":[[1,"gold"]]}', INVOCATIONS), 400, "comes twice")
    yield Hostile("invocations: NaN", http(b'{"instances":[[NaN,"free"]]}', INVOCATIONS), 400)
    for name, status, content in [
        ("an open quote", 400, b'age,plan\r\n1,"free\r\n'),
        ("a quote in the middle", 200, b'age,plan\r\n1,fr"ee\r\n'),
        ("NUL", 200, b"age,plan\r\n1,fr\x00ee\r\n"),
        ("NUL in its header", 400, b"age,pl\x00an\r\n1,free\r\n"),
        ("invalid UTF-8", 400, b"age,plan\r\n1,\xff\xfe\r\n"),
        ("UTF-16", 400, "age,plan\r\n1,free\r\n".encode("utf-16")),
        ("nothing", 400, b""),
        ("only its header", 400, b"age,plan\r\n"),
        ("a column twice", 400, b"age,age\r\n1,2\r\n"),
        ("rows too short", 400, b"age,plan\r\n1\r\n"),
        ("rows too long", 400, b"age,plan\r\n1,free,x\r\n"),
        ("a text for a number", 400, b"age,plan\r\nold,free\r\n"),
        ("an infinity", 400, b"age,plan\r\ninf,free\r\n"),
        ("a field of 200 kB", 400, b"age,plan\r\n1," + b"x" * 200_000 + b"\r\n"),
        ("old line ends", 200, b"age,plan\r1,free\r"),
    ]:
        yield Hostile(f"CSV: {name}", http(content, INVOCATIONS, Content_Type="text/csv"), status)


def _sizes() -> Iterator[Hostile]:
    yield Hostile("a body over the limit", http(b" " * 100_001), 413, "at most 100000")
    yield Hostile("a body of 5 MB", http(b" " * 5_000_000), 413, "at most 100000", once=True)
    yield Hostile("a body of 5 MB in chunks", chunked(*[chunk(b" " * 50_000)] * 100, b"0\r\n\r\n"), 413, "at most 100000", once=True)
    yield Hostile("a body of one-byte chunks", chunked(*map(chunk, (bytes([byte]) for byte in GOOD_BODY)), b"0\r\n\r\n"), 200)
    yield Hostile("a terabyte announced", http(b" " * 50_000, length=str(2**40)), 413, "at most 100000", kept=False)
    yield Hostile("a terabyte announced, then waiting", http(b"", length=str(2**40), Expect="100-continue"), 413, "at most 100000", kept=False)
    yield Hostile("a body over the limit that waits to be asked for", http(b"", length="100001", Expect="100-continue"), 413, kept=False)
    yield Hostile("a body over the limit without a key", http(b" " * 100_001).replace(b"X-API-Key", b"X-Nothing"), 401)
    yield Hostile("a body over the limit for nobody", http(b" " * 100_001, "/v2/models/nix/infer"), 404)
    yield Hostile("a body of 5 MB where none is read", http(b" " * 5_000_000, "/v2/repository/index"), 413, once=True)


def _heads() -> Iterator[Hostile]:
    for name, chunks in {
        "no number": (b"xyz\r\nhello\r\n0\r\n\r\n",),
        "a negative number": (b"-5\r\nhello\r\n0\r\n\r\n",),
        "an overflowing number": (b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",),
        "a number too small": (b"2\r\nhello\r\n0\r\n\r\n",),
    }.items():
        yield Hostile(f"a chunk size that is {name}", chunked(*chunks), 400, kept=False)
    yield Hostile("a chunk with a long extension", chunked(b"5;" + b"x" * 9_000 + b"\r\nhello\r\n0\r\n\r\n"), 400)
    smuggled = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    yield Hostile("Content-Length and Transfer-Encoding", http(b"0\r\n\r\n" + smuggled, length="5", Transfer_Encoding="chunked"), 400, kept=False)
    yield Hostile("Transfer-Encoding and Content-Length", chunked(b"0\r\n\r\n" + smuggled, Content_Length="5"), 400, kept=False)
    yield Hostile("a transfer encoding that is unknown", http(GOOD_BODY, length=None, Transfer_Encoding="gzip"), 400, kept=False)
    yield Hostile("a transfer encoding in disguise", http(GOOD_BODY, length="5", Transfer_Encoding="xchunked"), 400, kept=False)
    yield Hostile("chunked and then something", http(GOOD_BODY, length=None, Transfer_Encoding="chunked, identity"), 400, kept=False)
    yield Hostile("two lengths", http(GOOD_BODY, Content_Length_="1").replace(b"Content-Length-", b"Content-Length"), 400, kept=False)
    for name, length in {"negative": "-1", "a sum": "+5", "a list": "5, 5", "huge": "9" * 30, "hex": "0x10", "a text": "many"}.items():
        yield Hostile(f"a length that is {name}", http(GOOD_BODY, length=length), 400, kept=False)
    trailer = b"0\r\nContent-Encoding: br\r\nX-API-Key: nonsense\r\n\r\n"
    yield Hostile("headers after the body", chunked(chunk(GOOD_BODY), trailer), 200)
    keyless = chunked(chunk(GOOD_BODY), b"0\r\nX-API-Key: " + KEY.encode() + b"\r\n\r\n").replace(b"X-API-Key", b"X-Nothing", 1)
    yield Hostile("a key after the body", keyless, 401)
    yield Hostile("500 headers", http(GOOD_BODY, **{f"X_{number}": "x" for number in range(500)}), 200)
    yield Hostile("5,000 headers", http(GOOD_BODY, **{f"X_{number}": "x" * 20 for number in range(5000)}), 431, "head", kept=False)
    yield Hostile("a header of 100 kB", http(X_Long="x" * 100_000), 431, "head", kept=False)
    yield Hostile("an endless address", http(path="/v2/models/" + "x" * 100_000 + "/infer"), 431, "head", kept=False)
    yield Hostile("an address of 20 kB", http(path="/v2/models/" + "x" * 20_000 + "/infer"), 404)
    yield Hostile("a bad header name", http().replace(b"Host: x", b"Ho st: x"), 400, kept=False)
    yield Hostile("a folded header", http().replace(b"Host: x", b"Host: x\r\n more"), 400, kept=False)
    yield Hostile("NUL in a header", http().replace(b"Host: x", b"Host: x\x00"), 400, kept=False)
    yield Hostile("lines without a return", http().replace(b"\r\n", b"\n"), 400, kept=False)
    yield Hostile("TLS instead of HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, kept=False)
    yield Hostile("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, kept=False)
    yield Hostile("HTTP/3.0", http(version="3.0"), 400, kept=False)
    yield Hostile("HTTP/1.0", http(version="1.0"), 200, kept=False)
    yield Hostile("Connection: close", http(Connection="close"), 200, kept=False)
    yield Hostile("Expect: 100-continue, body and all", http(Expect="100-continue"), 200)
    yield Hostile("an upgrade to HTTP/2", http(Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABkAAQCAAAAAAIAAAAA"), 200)
    yield Hostile("an upgrade to a websocket", http(Connection="Upgrade", Upgrade="websocket"), 200)


def _paths() -> Iterator[Hostile]:
    yield Hostile("an unknown method", http(method="FROB"), 400, kept=False)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET"):
        yield Hostile(f"{method} on infer", http(method=method), 405, "not allowed")
    yield Hostile("CONNECT", http(b"", "x:80", method="CONNECT"), 400, kept=False)
    yield Hostile("no path", http(path="*", method="OPTIONS"), 404)
    yield Hostile("an empty endpoint", http(path="/v2/models//infer"), 404)
    yield Hostile("an unknown endpoint", http(path="/v2/models/nix/infer"), 404, "'nix' is not found")
    yield Hostile("a traversal", http(path="/v2/models/../../etc/passwd/infer"), 404)
    yield Hostile("an escaped traversal", http(path="/v2/models/%2e%2e%2f%2e%2e%2fetc/infer"), 404)
    yield Hostile("a broken escape", http(path="/v2/models/%zz%/infer"), 404)
    yield Hostile("an escape that is no UTF-8", http(path="/v2/models/%ff%fe/infer"), 404)
    yield Hostile("an escaped surrogate", http(path="/v2/models/%ed%a0%80/infer"), 404)
    yield Hostile("an escaped NUL", http(path="/v2/models/sum%00/infer"), 404)
    yield Hostile("an escaped line end", http(path="/v2/models/sum%0d%0aX:%201/infer"), 404)
    yield Hostile("a raw NUL in the path", http(path=b"/v2/models/su\x00m/infer"), 400, kept=False)
    yield Hostile("raw bytes in the path", http(path=b"/v2/models/\xff\xfe/infer"), 400, kept=False)
    yield Hostile("a version that is no number", http(path="/v2/models/sum/versions/x%27--/infer"), 404)
    yield Hostile("a version of 400 digits", http(path="/v2/models/sum/versions/" + "9" * 400 + "/infer"), 404)
    yield Hostile("an absolute address", http(path="http://elsewhere/v2/models/sum/infer"), 200)
    yield Hostile("an address of another kind", http(path="ftp://elsewhere:99999/v2/models/sum/infer"), 400, kept=False)
    yield Hostile("a query and a fragment", http(path="/v2/models/sum/infer?x=%00#y"), 200)
    yield Hostile("an index with a broken body", http(b"{", "/v2/repository/index"), 400)
    yield Hostile("an index with a list", http(b"[]", "/v2/repository/index"), 400)
    yield Hostile("an index nested deeply", http(b"[" * 50_000, "/v2/repository/index"), 400)
    yield Hostile("load with parameters that are a list", http(b'{"parameters":[1]}', "/v2/repository/models/sum/load", X_API_Key_="x"), 403)


def _keys() -> Iterator[Hostile]:
    for name, value in {"nothing": "", "spaces": "   ", "bytes": "\xff\xfe\x80", "60 kB": "Bearer " + "x" * 60_000, "half a key": KEY[:20]}.items():
        yield Hostile(f"a key of {name}", http(Authorization=value).replace(b"X-API-Key", b"X-Nothing"), 401)


GROUPS = {
    "json": _json,
    "tensors": _tensors,
    "binary": _binary,
    "packed": _packed,
    "rows": _rows,
    "mlflow": _mlflow,
    "sizes": _sizes,
    "heads": _heads,
    "paths": _paths,
    "keys": _keys,
}
CORPUS = [each for group in GROUPS.values() for each in group()]
