"""Shared memory as a client makes it: by tritonclient's own utilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import serialize_byte_tensor

from serving.dataplane.tensors import Array

FOLDER = Path("/dev/shm")


@dataclass
class SharedObject:
    """One object; ``key`` is what a region of it is registered by."""

    key: str
    handle: Any

    @property
    def path(self) -> Path:
        return FOLDER / self.key.removeprefix("/")

    def put(self, arrays: Sequence[Array], offset: int = 0) -> list[tuple[int, int]]:
        """Write arrays one after the other, and give where each begins and how many bytes it has."""
        places = []
        for array in arrays:
            packed = serialize_byte_tensor(array) if array.dtype == np.object_ else array
            size = len(packed.item()) if array.dtype == np.object_ else array.nbytes
            shm.set_shared_memory_region(self.handle, [packed], offset)
            places.append((offset, size))
            offset += size
        return places

    def get(self, kind: Any, shape: Sequence[int], offset: int = 0) -> Array:
        found: Array = shm.get_contents_as_numpy(self.handle, kind, list(shape), offset).copy()
        return found


@contextmanager
def shared_object(size: int) -> Iterator[SharedObject]:
    key = f"/signalbox-test-{uuid4().hex}"
    handle = shm.create_shared_memory_region(key, key, size, create_only=True)
    try:
        yield SharedObject(key, handle)
    finally:
        shm.destroy_shared_memory_region(handle)
