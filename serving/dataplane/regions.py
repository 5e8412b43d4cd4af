"""Regions of system shared memory: pieces of POSIX objects, each of the API key that registered it, known to all data-plane processes of the machine.

An object is opened by its name for each request, and read and written by system calls. It is never
mapped: its owner can make it shorter at any time, and who touches a page that is gone is killed. Its owner
can also make a system call wait, so whatever touches an object is for a thread.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import SignalboxError
from serving.dataplane import keys
from serving.dataplane.errors import AlreadyThere, BadRequest, Busy, Unknown, Unsupported
from serving.dataplane.noticeboard import Document, Noticeboard
from serving.table import KeyEntry, RouteTable

logger = logging.getLogger(__name__)

_FOLDER = "/dev/shm"  # noqa: S108  # where POSIX objects are; nothing is made there
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_OTHERS = ("PostgreSQL.", "sem.")
"""How the names of PostgreSQL's own memory and of semaphores begin: what is written there would bring down who uses them."""
_OF_THE_CALLER = frozenset(
    (
        errno.EACCES,
        errno.EAGAIN,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EPERM,
        errno.EROFS,
        errno.ETXTBSY,
    )
)
"""What is wrong with the object if it cannot be opened; all else is ours: too many open files, no memory."""
_EXPECTED = (
    f"The key of a region is the name of a shared memory object: a file right in {_FOLDER}, no link, of at most 255 bytes, with or without one slash before it"
)
_MOST = 256
_LONGEST_NAME = 255
_LONGEST_SHOWN = 80
_LARGEST = 2**63 - 1
THREADS = 4
_PATIENCE_S = 5.0
_OFF = (
    "Shared memory is not offered here. Send tensors in the request's body, or set SIGNALBOX_SHARED_MEMORY=on where everybody with a key "
    "may read and write the shared memory that the server's account may."
)
_FORWARDED = (
    "This request came through a proxy, and shared memory is offered to direct callers from this machine alone. Send tensors in the request's body, "
    "or set SIGNALBOX_SHARED_MEMORY=on where everybody with a key may read and write the shared memory that the server's account may."
)


class Region(NamedTuple):
    """``byte_size`` bytes of the object ``key``, from ``offset`` on."""

    name: str
    key: str
    offset: int
    byte_size: int

    def read(self, offset: int, size: int) -> bytes:
        """Copy ``size`` bytes from ``offset`` on, both within the region; raises BadRequest if the object does not have them any more, or Busy."""
        with self.opened(os.O_RDONLY) as (descriptor, object_size):
            try:
                data = os.pread(descriptor, size, self.offset + offset)
            except OSError as error:
                raise Busy(f"The shared memory region {_shown(self.name)} cannot be read now: {error.strerror}.") from error
        if len(data) != size:
            raise self._too_short(object_size, offset, size)
        return data

    def object_size(self) -> int:
        """Give how many bytes the object has; raises what ``opened`` raises."""
        with self.opened(os.O_RDONLY) as (_, size):
            return size

    @contextmanager
    def opened(self, access: int) -> Iterator[tuple[int, int]]:
        """Open the object and give its descriptor and its size; raises BadRequest for what is no object of shared memory, or Busy."""
        name = self.key.removeprefix("/")
        if not name or "/" in name or "\0" in name or name in (".", "..") or name.startswith(_OTHERS):
            raise BadRequest(f"Unable to open shared memory region: {_shown(self.key)}. {_EXPECTED}.")
        try:
            descriptor = os.open(f"{_FOLDER}/{name}", access | _FLAGS)
        except UnicodeEncodeError:
            raise BadRequest(f"Unable to open shared memory region: {_shown(self.key)}: no name that a file can have. {_EXPECTED}.") from None
        except OSError as error:
            what = f"Unable to open shared memory region: {_shown(self.key)}: {error.strerror}."
            if error.errno in _OF_THE_CALLER:
                raise BadRequest(f"{what} {_EXPECTED}.") from None
            raise Busy(f"{what} The fault is the server's. Try again in a second.") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or found.st_dev != Path(_FOLDER).stat().st_dev:
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
    """Write each piece into its region from its offset on; raises BadRequest, or Busy.

    If one cannot be opened or has no room, none is written; what fails after that leaves those before it written, and perhaps a part of its own.
    """
    with ExitStack() as stack:
        opened = []
        for region, offset, data in pieces:
            descriptor, object_size = stack.enter_context(region.opened(os.O_WRONLY))
            region.require_room(object_size, offset, len(data))
            opened.append(descriptor)
        for descriptor, (region, offset, data) in zip(opened, pieces, strict=True):
            try:
                _write(descriptor, data, region.offset + offset)
            except OSError as error:
                raise _unwritten(region, error) from error


def _write(descriptor: int, data: bytes, at: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def _unwritten(region: Region, error: OSError) -> SignalboxError:
    what = f"The shared memory region {_shown(region.name)} cannot be written: {error.strerror}. The prediction was made and counts."
    if error.errno == errno.ENOSPC:
        return BadRequest(f"{what} Its object has no memory there, and the machine has none left: allocate all of an object when you make it.")
    return Busy(what)


class Regions:
    """The regions of all keys, as long as the machine runs. ``path`` is where the processes keep them, None where callers may name none.

    ``direct_only``: not for who comes through a proxy. ``threads`` are where objects are touched.
    """

    def __init__(self, path: Path | None, *, direct_only: bool = False) -> None:
        self._board = None if path is None else Noticeboard(path)
        self._direct_only = direct_only
        self._boot = _boot()
        self.threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="shared-memory")

    @property
    def are_offered(self) -> bool:
        return self._board is not None

    async def register(self, actor: KeyEntry, name: str, given: Mapping[str, Any], table: RouteTable) -> None:
        """Register a region for the key; ``given`` has its ``key``, ``byte_size`` and perhaps ``offset``, ``table`` the keys that there are.

        Raises Denied, Unsupported, BadRequest, AlreadyThere, or Busy, and then registers nothing.
        """
        keys.require_scope(actor)
        board = self._offered()
        region = _region(name, given)
        object_size = await self._size_of(region)
        if region.offset + region.byte_size > object_size:
            raise BadRequest(
                f"failed to register shared memory region {_shown(name)}: its object {_shown(region.key)} has {object_size} bytes, "
                f"and {region.byte_size} bytes from {region.offset} on were named."
            )

        def edit(document: Document) -> None:
            own = _cleared(document, self._boot, table).setdefault(actor.id, {})
            if name in own:
                raise AlreadyThere(f"shared memory region {_shown(name)} already in manager. Unregister it first, or take another name.")
            if len(own) >= _MOST:
                raise BadRequest(f"The API key {actor.id} has {_MOST} shared memory regions, the most that it may have. Unregister one first.")
            own[name] = region[1:]

        await board.change(edit)
        logger.info("The API key %s registers the shared memory region %r of %r.", actor.id, name, region.key)

    async def unregister(self, actor: KeyEntry, name: str) -> None:
        """Forget a region of the key, with no name all of them; one that is not there is forgotten already. Raises Denied, or Busy."""
        keys.require_scope(actor)
        own = self._of(actor.id)
        if self._board is None or not (name in own if name else own):
            return

        def edit(document: Document) -> None:
            left = document.get("keys", {}).pop(actor.id, {})
            left.pop(name, None)
            if name and left:
                document["keys"][actor.id] = left

        await self._board.change(edit)

    def status(self, actor: KeyEntry, name: str) -> list[dict[str, Any]]:
        """Describe a region of the key, with no name all of them; raises Denied, or Unknown."""
        keys.require_scope(actor)
        own = self._of(actor.id)
        if name and name not in own:
            raise Unknown(f"Unable to find system shared memory region: {_shown(name)}")
        return [Region(each, *own[each])._asdict() for each in ([name] if name else sorted(own))]

    def find(self, key_id: str, name: str, *, is_forwarded: bool) -> Region:
        """Give a region of the key; raises Unsupported, or Unknown. It is what all processes know now: one look at a file's number."""
        self.require_offered(is_forwarded=is_forwarded)
        found = self._of(key_id).get(name)
        if found is None:
            raise Unknown(f"Unable to find shared memory region: {_shown(name)}. Register it with the API key that names it.")
        return Region(name, *found)

    def require_offered(self, *, is_forwarded: bool) -> None:
        """Return where the caller may name regions, else raise Unsupported. ``is_forwarded``: the request came through a proxy."""
        self._offered()
        if is_forwarded and self._direct_only:
            raise Unsupported(_FORWARDED)

    def close(self) -> None:
        """End the threads."""
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def _size_of(self, region: Region) -> int:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await asyncio.get_running_loop().run_in_executor(self.threads, region.object_size)
        except TimeoutError:
            raise Busy(f"The shared memory object {_shown(region.key)} could not be looked at within {_PATIENCE_S:.0f} seconds. Try again.") from None

    def _offered(self) -> Noticeboard:
        if self._board is None:
            raise Unsupported(_OFF)
        return self._board

    def _of(self, key_id: str) -> dict[str, Any]:
        if self._board is None:
            return {}
        try:
            self._board.look()
        except OSError as error:
            raise Busy(f"The regions of shared memory cannot be read now: {error.strerror}.") from error
        document = self._board.document
        own: dict[str, Any] = document["keys"].get(key_id, {}) if document.get("boot") == self._boot else {}
        return own


def _boot() -> str:
    """Give what names this run of the machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _cleared(document: Document, boot: str, table: RouteTable) -> Document:
    """Give the regions by key: none of an earlier run of the machine, whose objects are gone, and none of keys that are gone.

    Who has an older table than another process that wrote here does not know all keys, and drops none.
    """
    if document.get("boot") != boot:
        document.clear()
        document.update(boot=boot, revision=0, keys={})
    if table.revision >= document["revision"]:
        document["revision"] = table.revision
        known = {key.id for key in table.keys}
        document["keys"] = {key_id: own for key_id, own in document["keys"].items() if key_id in known}
    kept: Document = document["keys"]
    return kept


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


def _shown(text: str) -> str:
    return f"'{text[:_LONGEST_SHOWN]}'"
