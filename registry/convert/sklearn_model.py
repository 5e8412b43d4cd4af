"""Loads a scikit-learn estimator out of pickle, joblib or skops bytes. Only in a confined process."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

from registry.convert.allowlist import allowed_names, find, refusal_of
from registry.convert.verdict import NotServable, Refused
from registry.intake import COMPRESSIONS, SKOPS_LOADERS, skops_names

_UNPACKED_LIMIT = 2 * 2**30
_CHUNK = 2**20
_VERSION = re.compile(r"[0-9a-zA-Z.+-]{1,40}")
_SAVE_AGAIN = "Save the model again with joblib.dump, pickle.dump or skops.io.dump and register that file."


@dataclass(frozen=True)
class Loaded:
    """The estimator, and the scikit-learn that saved it, where that is another than the one here; else empty."""

    model: Any
    saved_with: str


def load(data: bytes, kind: str) -> Loaded:
    """Give the estimator in ``data``; ``kind`` is what ``registry.intake`` found: ``pickle`` or ``skops``.

    Raises Refused for anything that is not on the list, broken or too large.
    """
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")
            warnings.simplefilter("once", InconsistentVersionWarning)
            model = _load_skops(data) if kind == "skops" else _load_pickle(unpacked(data))
    except (Refused, NotServable):
        raise
    except MemoryError:
        raise Refused("The file needs more memory than a sandbox process may use.", "Register a smaller model.") from None
    except Exception as error:  # a hostile or truncated file may raise anything here
        raise Refused(f"The file could not be read: {_told(error)}", _SAVE_AGAIN) from error
    return Loaded(_estimator(model), _saved_with(told))


def _saved_with(told: list[warnings.WarningMessage]) -> str:
    """Read scikit-learn's own warning that a part was saved by another version; the file may say anything there."""
    found = [str(getattr(one.message, "original_sklearn_version", "")) for one in told]
    return next((text if _VERSION.fullmatch(text) else "an unknown version" for text in found), "")


def unpacked(data: bytes) -> bytes:
    """Undo joblib's compression, if there is any, up to 2 GiB."""
    openers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open, "lzma": lzma.open}
    kind = next((name for magic, name in COMPRESSIONS.items() if data.startswith(magic)), "")
    if not kind:
        return data
    if kind == "zlib":
        decompressor = zlib.decompressobj()
        plain = decompressor.decompress(data, _UNPACKED_LIMIT)
        return _bounded(io.BytesIO(plain), rest=bool(decompressor.unconsumed_tail))
    with openers[kind](io.BytesIO(data)) as stream:
        return _bounded(stream)


def _bounded(stream: BinaryIO, *, rest: bool = False) -> bytes:
    plain = bytearray()
    while chunk := stream.read(_CHUNK):
        plain += chunk
        if len(plain) > _UNPACKED_LIMIT:
            rest = True
            break
    if rest:
        raise Refused(f"The file unpacks to more than {_UNPACKED_LIMIT // 2**30} GiB.", "Register a smaller model.")
    return bytes(plain)


class _Unpickler(pickle.Unpickler):
    """A pickle reader that looks up listed names only."""

    def find_class(self, module: str, name: str, /) -> Any:
        return find(module, name)

    def persistent_load(self, pid: Any, /) -> Any:
        raise Refused("The file refers to data outside itself.", _SAVE_AGAIN)


def _load_pickle(data: bytes) -> Any:
    if b"joblib.numpy_pickle" in data[: 2**20] or b"joblib.numpy_pickle" in data:
        return _joblib_unpickler(io.BytesIO(data)).load()
    return _Unpickler(io.BytesIO(data)).load()


def _joblib_unpickler(stream: BinaryIO) -> Any:
    """joblib's reader, which takes arrays from between the opcodes, with our look-up and our array reader."""
    from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

    class ArrayWrapper(NumpyArrayWrapper):  # type: ignore[misc]  # joblib has no types
        def read_array(self, unpickler: Any, ensure_native_byte_order: bool) -> Any:
            if self.dtype.hasobject:  # a pickle within the pickle: joblib would open it with any name
                return _Unpickler(unpickler.file_handle).load()
            return super().read_array(unpickler, ensure_native_byte_order)

    class Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
        def find_class(self, module: str, name: str) -> Any:
            return ArrayWrapper if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper") else find(module, name)

        def persistent_load(self, pid: Any) -> Any:
            raise Refused("The file refers to data outside itself.", _SAVE_AGAIN)

    return Unpickler("", stream, ensure_native_byte_order=True)


def _load_skops(data: bytes) -> Any:
    import skops.io

    with zipfile.ZipFile(io.BytesIO(data)) as folder:
        schema = json.loads(folder.read("schema.json"))
    for module, name, loader in skops_names(schema):
        _check_skops_node(module, name, loader)
    return skops.io.loads(data, trusted=[f"{module}.{name}" for module, name in allowed_names()])


def _check_skops_node(module: str, name: str, loader: str) -> None:
    if loader not in SKOPS_LOADERS:
        raise Refused(f"The file holds a {loader}, which calls code while it is read.", "Remove functions and methods from the model, or export it to ONNX.")
    own = (module, name) in {("builtins", "NoneType"), ("numpy.random.mtrand", "RandomState"), ("numpy.random._generator", "Generator"), ("types", "NoneType")}
    if not own and (module, name) not in allowed_names():
        raise refusal_of(module, name)


def _estimator(model: Any) -> Any:
    """Unwrap a search and hold on to anything that predicts; one processor only."""
    from sklearn.base import BaseEstimator

    if not isinstance(model, BaseEstimator):
        raise Refused(f"The file holds a {type(model).__name__}, not a scikit-learn model.", "Save the fitted estimator or pipeline itself.")
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "predict"):
        raise NotServable(f"{type(model).__name__} has no predict method, so there is nothing to serve.", "Register the pipeline that ends in a model.")
    jobs = {name: 1 for name in model.get_params(deep=True) if name == "n_jobs" or name.endswith("__n_jobs")}
    return model.set_params(**jobs) if jobs else model


def _told(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
