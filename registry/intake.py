"""A first look at a file that was sent in: what is it, and does it name what no model needs? Standard library only.

Runs in a sandbox process of its own: a zip's directory alone can fill the memory. Nothing is loaded,
called or imported here, and a clean look proves nothing.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"]\x00\x00": "lzma",
    b"x\x01": "zlib",
    b"x^": "zlib",
    b"x\x9c": "zlib",
    b"x\xda": "zlib",
}
SKOPS_LOADERS = frozenset(
    [
        "DictNode",
        "DefaultDictNode",
        "ListNode",
        "SetNode",
        "TupleNode",
        "BytesNode",
        "BytearrayNode",
        "SliceNode",
        "TypeNode",
        "ObjectNode",
        "FunctionNode",
        "PartialNode",
        "JsonNode",
        "NdArrayNode",
        "MaskedArrayNode",
        "DTypeNode",
        "RandomStateNode",
        "RandomGeneratorNode",
        "SparseMatrixNode",
        "TreeNode",
        "LossNode",
        "CachedNode",
    ]
)
_SCANNED_BYTES = 64 * 2**20
_SCANNED_OPCODES = 2_000_000
_ZIP_ENTRIES = 20_000
_ZIP_UNPACKED = 4 * 2**30
_ZIP_RATIO = 200
_SCHEMA_BYTES = 64 * 2**20
_ONNX_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_ONNX_GRAPH = 7
_EXPORT = "Export the model to ONNX where it was trained and register that file."
_PICKLE_STARTS = frozenset(b"(cI]}l.dNSVF\x80")
_DANGEROUS = frozenset(
    [
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "ctypes",
        "importlib",
        "runpy",
        "pty",
        "commands",
        "pdb",
        "webbrowser",
        "multiprocessing",
        "threading",
        "asyncio",
        "urllib",
        "http",
        "ftplib",
        "smtplib",
        "code",
        "codeop",
        "marshal",
        "io",
        "_io",
        "tempfile",
        "pathlib",
        "signal",
        "resource",
        "mmap",
        "linecache",
        "operator",
        "timeit",
        "cProfile",
        "bdb",
    ]
)
_DANGEROUS_BUILTINS = frozenset(
    [
        "eval",
        "exec",
        "compile",
        "open",
        "__import__",
        "getattr",
        "setattr",
        "delattr",
        "globals",
        "locals",
        "vars",
        "input",
        "breakpoint",
        "apply",
        "map",
        "filter",
    ]
)


@dataclass(frozen=True)
class Recognised:
    """What a file is: ``kind`` is empty where there is a reason and advice."""

    kind: Literal["pickle", "skops", "onnx", ""]
    text: str
    reason: str = ""
    advice: str = ""


def recognise(file: BinaryIO) -> Recognised:
    """Tell the format of a file by its content; its name says nothing."""
    head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return _recognise_zip(file)
    compression = next((name for magic, name in COMPRESSIONS.items() if head.startswith(magic)), "")
    if compression:
        return Recognised("pickle", f"joblib, compressed with {compression}")
    if _is_onnx(file, file.seek(0, io.SEEK_END)):
        return Recognised("onnx", "ONNX")
    if head[:1] and head[0] in _PICKLE_STARTS and not head.startswith(b"["):
        return Recognised("pickle", f"joblib or pickle, protocol {head[1]}" if head[0] == 0x80 and len(head) > 1 else "pickle, protocol 0 or 1")
    return _unknown(head)


def refusal(file: BinaryIO, kind: str) -> tuple[str, str] | None:
    """Give the reason and the advice when the file names what no model needs; None says nothing about safety."""
    try:
        for module, name in _names(file, kind):
            if module.partition(".")[0] in _DANGEROUS or (module in {"builtins", "__builtin__"} and name in _DANGEROUS_BUILTINS):
                return (
                    f"The file uses {module}.{name}, which is not on the list of names that a model may use.",
                    "Such a name runs code while the file is read. Register a file that you saved yourself, or export the model to ONNX.",
                )
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, RecursionError, OverflowError, MemoryError):
        return None  # broken or beyond what is scanned: the sandbox says what is wrong with it
    return None


def pickle_names(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Give each (module, name) that a pickle looks up, following the memo. Raises ValueError where it is broken."""
    strings: list[str] = []
    memo: dict[int, str] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _SCANNED_OPCODES:
            return
        if opcode.name in {"GLOBAL", "INST"}:
            module, _, name = str(argument).partition(" ")
            yield module, name
        elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
            yield strings[-2], strings[-1]
        else:
            _follow(opcode.name, argument, strings, memo)


def skops_names(schema: Any) -> Iterator[tuple[str, str, str]]:
    """Give (module, class, loader) of each node of a skops schema; raises ValueError when it nests too deep."""
    pending: list[tuple[Any, int]] = [(schema, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > 500:
            raise ValueError("the skops schema nests deeper than 500 levels")
        if isinstance(node, dict):
            if "__loader__" in node:
                yield str(node.get("__module__")), str(node.get("__class__")), str(node["__loader__"])
            if "module_path" in node:  # where an older skops names a function
                yield str(node["module_path"]), str(node.get("function")), "FunctionNode"
            pending += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list):
            pending += [(value, depth + 1) for value in node]


def _follow(opcode: str, argument: Any, strings: list[str], memo: dict[int, str]) -> None:
    """Keep the last strings and what the memo holds of them, as STACK_GLOBAL will see them."""
    if isinstance(argument, str) and ("UNICODE" in opcode or "STRING" in opcode):
        strings.append(argument)
        del strings[:-8]
    elif opcode == "MEMOIZE":
        memo[len(memo)] = strings[-1] if strings else ""
    elif opcode in {"PUT", "BINPUT", "LONG_BINPUT"}:
        memo[int(argument)] = strings[-1] if strings else ""
    elif opcode in {"GET", "BINGET", "LONG_BINGET"}:
        strings.append(memo.get(int(argument), ""))


def _names(file: BinaryIO, kind: str) -> Iterator[tuple[str, str]]:
    file.seek(0)
    if kind == "pickle":
        yield from pickle_names(io.BytesIO(file.read(_SCANNED_BYTES)))
    elif kind == "skops":
        with zipfile.ZipFile(file) as folder:
            yield from ((module, name) for module, name, _ in skops_names(json.loads(folder.read("schema.json"))))


def _recognise_zip(file: BinaryIO) -> Recognised:
    try:
        with zipfile.ZipFile(file) as folder:
            entries = folder.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Recognised("", "zip", "The zip archive is broken or cut short.", "Save the model again and register that file.")
    reason = _zip_too_large(entries)
    names = {entry.filename for entry in entries}
    if reason:
        return Recognised("", "zip", reason, "Register the model file itself.")
    if "schema.json" in names:
        return Recognised("skops", "skops")
    if any(name.endswith("data.pkl") for name in names):
        return Recognised("", "PyTorch", "This is a PyTorch file.", _EXPORT)
    return Recognised("", "zip", "This is a zip archive without a skops model in it.", "Register the model file itself: skops, joblib, pickle or ONNX.")


def _zip_too_large(entries: list[zipfile.ZipInfo]) -> str:
    if len(entries) > _ZIP_ENTRIES:
        return f"The archive holds {len(entries):,} files; at most {_ZIP_ENTRIES:,} are taken."
    unpacked, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if unpacked > _ZIP_UNPACKED or any(entry.filename == "schema.json" and entry.file_size > _SCHEMA_BYTES for entry in entries):
        return f"The archive unpacks to {unpacked:,} bytes, which is more than is taken."
    if unpacked > 2**20 and unpacked > packed * _ZIP_RATIO:
        return f"The archive unpacks to {unpacked // max(packed, 1)} times its size, as no model does."
    return ""


def _is_onnx(file: BinaryIO, size: int) -> bool:
    """Walk the top-level protobuf fields: an ONNX model has a graph and only the fields of ModelProto."""
    file.seek(0)
    seen: set[int] = set()
    while file.tell() < size and len(seen) < 64:
        key = _varint(file)
        if key is None or key >> 3 not in _ONNX_FIELDS:
            return False
        seen.add(key >> 3)
        if key & 7 == 0:
            if _varint(file) is None:
                return False
        elif key & 7 == 2:
            length = _varint(file)
            if length is None or file.tell() + length > size:
                return False
            file.seek(length, 1)
        else:
            return False
    return _ONNX_GRAPH in seen


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _unknown(head: bytes) -> Recognised:
    if head.startswith(b"\x89HDF"):
        return Recognised("", "HDF5", "This is an HDF5 file (Keras or others).", _EXPORT)
    if head.startswith((b"tree\n", b"binf", b"{L")) or b'"learner"' in head:
        return Recognised("", "boosting", "This is a model file of LightGBM or XGBoost.", _EXPORT)
    return Recognised("", "unknown", "The content is no format that is known here.", "Register a skops, joblib, pickle or ONNX file.")
