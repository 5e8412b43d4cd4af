"""Regions of system shared memory: pieces of POSIX objects, each of the API key that registered it, known to all data-plane processes of the machine.

An object is opened by its name for each request, and read and written by system calls. It is never
mapped: its owner can make it shorter at any time, and who touches a page that is gone is killed.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from serving.dataplane import keys
from serving.dataplane.errors import AlreadyThere, BadRequest, Unknown, Unsupported
from serving.dataplane.noticeboard import Document, Noticeboard
from serving.table import KeyEntry

logger = logging.getLogger(__name__)

_FOLDER = "/dev/shm"  # noqa: S108  # where POSIX objects are; nothing is made there
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS = ("PostgreSQL.", "sem.")
"""How the names of PostgreSQL's own memory and of semaphores begin: what is written there would bring down who uses them."""
_EXPECTED = (
    f"The key of a region is the name of a shared memory object: a file right in {_FOLDER}, no link, of at most 255 bytes, with or without one slash before it"
)
_MOST = 256
_LONGEST_NAME = 255
_LONGEST_SHOWN = 80
_LARGEST = 2**63 - 1
_OFF = (
    "Shared memory is not offered here. Send tensors in the request's body, or set SIGNALBOX_SHARED_MEMORY=on where everybody with a key "
    "may read and write the shared memory that the server's account may."
)


class Region(NamedTuple):
    """``byte_size`` bytes of the object ``key``, from ``offset`` on."""

    name: str
    key: str
    offset: int
    byte_size: int

    def read(self, offset: int, size: int) -> bytes:
        """Copy ``size`` bytes from ``offset`` on, both within the region; raises BadRequest if the object does not have them any more."""
        with self.opened(os.O_RDONLY) as (descriptor, object_size):
            data = os.pread(descriptor, size, self.offset + offset)
        if len(data) != size:
            raise self._too_short(object_size, offset, size)
        return data

    @contextmanager
    def opened(self, access: int) -> Iterator[tuple[int, int]]:
        """Open the object and give its descriptor and its size; raises BadRequest for what is no object of shared memory."""
        name = self.key.removeprefix("/")
        if not name or "/" in name or "\0" in name or name in (".", "..") or name.startswith(_OTHERS):
            raise BadRequest(f"Unable to open shared memory region: {_shown(self.key)}. {_EXPECTED}.")
        try:
            descriptor = os.open(f"{_FOLDER}/{name}", access | _FLAGS)
        except (OSError, UnicodeEncodeError) as error:
            raise BadRequest(f"Unable to open shared memory region: {_shown(self.key)}: {_reason(error)}. {_EXPECTED}.") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise BadRequest(f"Unable to open shared memory region: {_shown(self.key)}. {_EXPECTED}.")
            yield descriptor, found.st_size
        finally:
            os.close(descriptor)

    def require_room(self, object_size: int, offset: int, size: int) -> None:
        """Return if the object has the bytes, else raise BadRequest."""
        if self.offset + offset + size > object_size:
            raise self._too_short(object_size, offset, size)

    def _too_short(self, object_size: int, offset: int, size: int) -> BadRequest:
        where = f"{size} bytes from {self.offset + offset} on were asked for"
        return BadRequest(f"The shared memory region {_shown(self.name)} is too short by now: its object {_shown(self.key)} has {object_size} bytes, {where}.")


def write(pieces: list[tuple[Region, int, bytes]]) -> None:
    """Write each piece into its region from its offset on; raises BadRequest, and if one has no room none is written."""
    with ExitStack() as stack:
        opened = []
        for region, offset, data in pieces:
            descriptor, object_size = stack.enter_context(region.opened(os.O_WRONLY))
            region.require_room(object_size, offset, len(data))
            opened.append(descriptor)
        for descriptor, (region, offset, data) in zip(opened, pieces, strict=True):
            try:
                written = os.pwrite(descriptor, data, region.offset + offset)
            except OSError as error:
                raise BadRequest(f"The shared memory region {_shown(region.name)} cannot be written: {_reason(error)}.") from None
            if written != len(data):
                raise BadRequest(
                    f"The shared memory region {_shown(region.name)} took {written} of {len(data)} bytes. The machine's shared memory may be full."
                )


class Regions:
    """The regions of all keys. ``path`` is where the processes keep them, None where callers may name none."""

    def __init__(self, path: Path | None) -> None:
        self._board = None if path is None else Noticeboard(path)

    @property
    def are_offered(self) -> bool:
        return self._board is not None

    def register(self, actor: KeyEntry, name: str, given: Mapping[str, Any]) -> None:
        """Register a region for the key; ``given`` has its ``key``, ``byte_size`` and perhaps ``offset``.

        Raises Denied, Unsupported, BadRequest, or AlreadyThere, and then registers nothing.
        """
        keys.require_scope(actor)
        board = self._offered()
        region = _region(name, given)
        with region.opened(os.O_RDONLY) as (_, object_size):
            if region.offset + region.byte_size > object_size:
                raise BadRequest(
                    f"failed to register shared memory region {_shown(name)}: its object {_shown(region.key)} has {object_size} bytes, "
                    f"and {region.byte_size} bytes from {region.offset} on were named."
                )

        def edit(document: Document) -> None:
            own = document.setdefault(actor.id, {})
            if name in own:
                raise AlreadyThere(f"shared memory region {_shown(name)} already in manager. Unregister it first, or take another name.")
            if len(own) >= _MOST:
                raise BadRequest(f"The API key {actor.id} has {_MOST} shared memory regions, the most that it may have. Unregister one first.")
            own[name] = region[1:]

        board.change(edit)
        logger.info("The API key %s registers the shared memory region %r of %r.", actor.id, name, region.key)

    def unregister(self, actor: KeyEntry, name: str) -> None:
        """Forget a region of the key, with no name all of them; one that is not there is forgotten already. Raises Denied."""
        keys.require_scope(actor)
        own = self._of(actor.id)
        if self._board is None or not (name in own if name else own):
            return

        def edit(document: Document) -> None:
            if name:
                document.get(actor.id, {}).pop(name, None)
            if not name or not document.get(actor.id):
                document.pop(actor.id, None)

        self._board.change(edit)

    def status(self, actor: KeyEntry, name: str) -> list[dict[str, Any]]:
        """Describe a region of the key, with no name all of them; raises Denied, or Unknown."""
        keys.require_scope(actor)
        own = self._of(actor.id)
        if name and name not in own:
            raise Unknown(f"Unable to find system shared memory region: {_shown(name)}")
        return [Region(each, *own[each])._asdict() for each in ([name] if name else sorted(own))]

    def find(self, key_id: str, name: str) -> Region:
        """Give a region of the key; raises Unsupported, or Unknown. It is what all processes know now: one look at a file's number."""
        self._offered()
        found = self._of(key_id).get(name)
        if found is None:
            raise Unknown(f"Unable to find shared memory region: {_shown(name)}. Register it with the API key that names it.")
        return Region(name, *found)

    def _offered(self) -> Noticeboard:
        if self._board is None:
            raise Unsupported(_OFF)
        return self._board

    def _of(self, key_id: str) -> dict[str, Any]:
        if self._board is None:
            return {}
        self._board.look()
        own: dict[str, Any] = self._board.document.get(key_id, {})
        return own


def _region(name: str, given: Mapping[str, Any]) -> Region:
    if not 0 < len(name) <= _LONGEST_NAME:
        raise BadRequest(f"A region needs a name, of at most {_LONGEST_NAME} characters.")
    key = given.get("key")
    if not isinstance(key, str):
        raise BadRequest(f"The region {_shown(name)} has no key. {_EXPECTED}.")
    sizes = {"offset": given.get("offset", 0), "byte_size": given.get("byte_size")}
    for what, value in sizes.items():
        least = 1 if what == "byte_size" else 0
        if type(value) is not int or not least <= value <= _LARGEST:
            raise BadRequest(f"The region {_shown(name)}: {what} must be a whole number of bytes from {least} on.")
    return Region(name, key, **sizes)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "no name that a file can have"


def _shown(text: str) -> str:
    return f"'{text[:_LONGEST_SHOWN]}'"
