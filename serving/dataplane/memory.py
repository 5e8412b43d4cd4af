"""Which builds are in memory: loads them in threads of its own, and unloads the least recently used beyond a budget.

A build that answers stays before one that only stands by. What was unloaded is loaded again by the next call.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from serving.dataplane.builds import Build, State
from serving.dataplane.crashes import CrashWatch
from serving.dataplane.store import PREPARED_FROM_BYTES, BuildStore
from serving.runtimes.onnx import LoadFailed, OnnxBuild, RunFailed
from serving.table import BuildEntry

logger = logging.getLogger(__name__)

_NICE = 10
"""How much a thread that loads gives way: answering goes first, also to the other processes' event loops."""
_END_S = 3.0
_LEAST_BYTES = 2**20
_libc = ctypes.CDLL(None)


LastUses = Callable[[], Mapping[str, float]]
"""Gives when each build has run last, by digest, in seconds since 1970."""


class Role(NamedTuple):
    """What a build is for: whether a slot with traffic, or a shadow, has it, and when it was last deployed (seconds since 1970)."""

    answers: bool
    deployed_at: float


_NO_ROLE = Role(answers=False, deployed_at=0.0)
Orders = SimpleQueue[Build | None]
"""Builds to load, in order; None ends the thread."""


class BuildMemory:
    """Two threads load: one what tables bring, one what calls wait for, so that no call waits for a deployment. A third frees."""

    def __init__(self, store: BuildStore, crashes: CrashWatch, loop: asyncio.AbstractEventLoop, budget_bytes: int, last_uses: LastUses) -> None:
        self._store, self._crashes, self._loop, self._last_uses = store, crashes, loop, last_uses
        self.budget_bytes = budget_bytes
        self.builds: dict[str, Build] = {}
        self._deployed: Orders = SimpleQueue()
        self._called: Orders = SimpleQueue()
        self._gone: SimpleQueue[tuple[list[OnnxBuild | None], threading.Event] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._expected: set[Build] = set()
        self.changes = 0
        self._is_ending = False
        self._threads = [
            threading.Thread(target=self._work, args=(self._deployed, _NICE), name="load-deployed", daemon=True),
            threading.Thread(target=self._work, args=(self._called, 0), name="load-called", daemon=True),
        ]
        self._unloading = threading.Thread(target=self._empty, name="unload", daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._unloading):
            thread.start()

    def stop(self) -> None:
        """End the threads. What is being loaded has three seconds; then its marker goes, since it has not killed this process."""
        self._is_ending = True
        self._deployed.put(None)
        self._called.put(None)
        until = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._gone.put(None)
        self._store.end_loading()

    def hold(self, entries: Collection[BuildEntry], roles: Mapping[str, Role]) -> None:
        """Know exactly these builds, and what they are for. Those that are gone leave the memory with the last slot that has them."""
        known = {}
        for entry in entries:
            build = self.builds.get(entry.digest) or Build(entry, self._call, self._store.facts(entry.digest))
            role = roles.get(entry.digest, _NO_ROLE)
            build.answers = role.answers
            self._refuse_or_not(build, self._crashes.refusals.reason(entry.digest, role.deployed_at))
            known[entry.digest] = build
        self.builds = known

    def _refuse_or_not(self, build: Build, reason: str) -> None:
        if reason:
            build.state, build.error, build.runtime = State.REFUSED, reason, None
        elif build.state == State.REFUSED:
            build.state, build.error = State.UNKNOWN if build.facts is None else State.UNLOADED, ""

    def look_for_crashes(self) -> bool:
        """See what dead processes were running; tells whether what is refused has changed."""
        return self._crashes.look(self._store.born_at)

    def load(self, builds: Collection[Build]) -> None:
        """Have these loaded, in this order, unless they are or will be; returns at once."""
        with self._lock:
            fresh = [build for build in builds if build.runtime is None and build.state != State.REFUSED and build not in self._expected]
            self._expected.update(fresh)
        for build in fresh:
            self._deployed.put(build)

    def wait(self, builds: Collection[Build], timeout_s: float | None) -> None:
        """Return when each of these was loaded or could not be, or after ``timeout_s``."""
        with self._settled:
            self._settled.wait_for(lambda: self._expected.isdisjoint(builds), timeout_s)

    def expects(self, build: Build) -> bool:
        """Tell whether the build is being loaded, or waits for its turn."""
        return build in self._expected

    def forget_on_disk(self) -> None:
        """Keep on disk only what concerns the present builds."""
        self._store.forget_all_but(set(self.builds))

    def failed(self) -> list[Build]:
        """Give what could not be loaded."""
        return [build for build in self.builds.values() if build.state == State.FAILED]

    def first_choice(self) -> list[Build]:
        """Give what must be loaded at the start: what was never measured, and as much as the budget holds, what answers first."""
        chosen, room = [], self.budget_bytes
        for build in sorted(self.builds.values(), key=lambda build: not build.answers):
            room -= _size(build)
            if not build.error and (build.facts is None or room >= 0):
                chosen.append(build)
        return chosen

    def _call(self, build: Build) -> None:
        self._called.put(build)

    def _work(self, orders: Orders, nice: int) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
        while (build := orders.get()) is not None and not self._is_ending:
            try:
                self._take(build, orders)
            except Exception:  # the thread's edge
                logger.exception("Loading a build failed.")
            del build  # while this thread waits it must not keep in memory what nothing else has any more

    def _take(self, build: Build, orders: Orders) -> None:
        with self._settled:
            if build.state == State.LOADING:
                return  # the other thread has it, and wakes whoever waits
            runtime = build.runtime
            is_needed = build.state != State.REFUSED and runtime is None
            was = (build.facts is None, build.error)
            if is_needed:
                build.state = State.LOADING
        try:
            if is_needed:
                self._load_into_room(build, called_for=orders is self._called)
            elif runtime is not None:
                self._loop.call_soon_threadsafe(build.arrive, runtime)
            else:
                self._loop.call_soon_threadsafe(build.stay_away, build.error)
        finally:
            with self._settled:
                # A build that only comes back into memory changes no table, nor does one that fails again as before.
                is_news = was != (build.facts is None, build.error) or (build in self._expected and not build.error)
                self.changes += is_needed and is_news
                self._expected.discard(build)
                self._settled.notify_all()

    def _load_into_room(self, build: Build, *, called_for: bool) -> None:
        try:
            self._make_room(build, called_for)
            self._load(build)
            self._make_room(build, called_for)
        except Exception as error:  # nothing may leave a build loading for ever, with its callers and its table waiting
            if build.state == State.LOADING:
                self._fail(build, f"Loading it failed: {type(error).__name__}: {error}")
            raise

    def _load(self, build: Build) -> None:
        entry = build.entry
        before, began = _resident_bytes(), time.monotonic()
        try:
            runtime = self._store.load(entry)
        except (LoadFailed, RunFailed) as error:
            logger.error("%s version %d cannot be served: %s", entry.model, entry.version, error.message)  # noqa: TRY400  # the text says it all
            self._fail(build, error.message)
        except Exception as error:  # one build's failure must not end the thread, nor leave its callers waiting
            logger.exception("%s version %d cannot be served.", entry.model, entry.version)
            self._fail(build, f"Loading it failed: {type(error).__name__}: {error}")
        else:
            if entry.size_bytes >= PREPARED_FROM_BYTES:
                self._free([])
            logger.info("%s version %d was loaded in %.2f s.", entry.model, entry.version, time.monotonic() - began)
            self._have(build, runtime, _resident_bytes() - before)

    def _have(self, build: Build, runtime: OnnxBuild, grown_bytes: int) -> None:
        known = build.facts or self._store.facts(build.entry.digest)
        if known is None or known.form != runtime.form:  # the prepared form takes a quarter of the memory
            known = runtime.facts(_plausible(grown_bytes, build.entry.size_bytes))
            self._store.keep_facts(build.entry.digest, known)
        build.facts = known
        runtime.mark = self._crashes.marks.number_of(build.entry.digest)
        build.loaded_at = time.time()
        build.state, build.error = State.LOADED, ""
        build.runtime = runtime
        self._loop.call_soon_threadsafe(build.arrive, runtime)

    def _fail(self, build: Build, reason: str) -> None:
        build.state, build.error = State.FAILED, reason
        self._loop.call_soon_threadsafe(build.stay_away, reason)

    def _make_room(self, wanted: Build, called_for: bool) -> None:
        """Unload until ``wanted`` fits into the budget: first what stands by, then what has not answered for longest.

        What a call has asked for stays, however large it is. What a table brought may have to go again
        itself, and if it only stands by, nothing that answers goes for it.
        """
        present = {build for build in list(self.builds.values()) if build.runtime is not None} | {wanted}
        over = sum(map(_size, present)) - self.budget_bytes
        if over <= 0:
            return
        last_uses = self._last_uses()

        def worth(build: Build) -> tuple[bool, float]:
            return build.answers, max(last_uses.get(build.entry.digest, 0.0), build.loaded_at)

        if wanted.runtime is None or called_for:
            present.discard(wanted)
        if not (wanted.answers or called_for):
            present = {build for build in present if not build.answers}
        gone: list[OnnxBuild | None] = []
        for build in sorted(present, key=worth):
            if over <= 0:
                break
            over -= _size(build)
            gone.append(build.runtime)
            build.state, build.runtime = State.UNLOADED, None
            logger.info("%s version %d was unloaded, to keep the memory's budget.", build.entry.model, build.entry.version)
        self._free(gone)

    def _free(self, gone: list[OnnxBuild | None]) -> None:
        """Empty the list, which has the last references, and return when the memory is free.

        A thread that does not give way does it, since it holds the interpreter meanwhile.
        """
        done = threading.Event()
        self._gone.put((gone, done))
        done.wait()

    def _empty(self) -> None:
        while (order := self._gone.get()) is not None:
            gone, done = order
            gone.clear()
            give_back()
            done.set()


def _size(build: Build) -> int:
    return build.facts.memory_bytes if build.facts else build.entry.size_bytes


def _plausible(grown_bytes: int, file_bytes: int) -> int:
    """Bound what the process has grown by while it loaded: other threads, and the first build of all, make it grow too.

    A forest that is not prepared takes about five times its file.
    """
    return max(file_bytes, min(grown_bytes, 8 * file_bytes + _LEAST_BYTES))


def give_back() -> None:
    """Have the allocator give freed memory back: after loading a forest of 130 MB that is half of what it took. Others run meanwhile."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def budget_of(setting_bytes: int, processes: int, *, part: int) -> int:
    """Give one process's share of the setting, or, when it is 0, of one ``part``-th of what the machine (or its container) has."""
    return (setting_bytes or machine_bytes() // part) // processes


def machine_bytes() -> int:
    """Give the memory that may be used: the container's limit where there is one."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return min(physical, int(Path(path).read_text()))
    return physical
