"""One build in this process, in memory or not. What was measured of it stays when it is unloaded."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from serving.dataplane.rows import RowCodec
from serving.dataplane.spec import Spec
from serving.runtimes.onnx import Facts, OnnxBuild
from serving.table import BuildEntry

Waiter = Callable[[str], None]
"""Called in the event loop's thread when the build is in memory, or with the reason why it is not."""
Ask = Callable[["Build"], None]


class State(StrEnum):
    """Where a build stands; the page System shows it."""

    UNKNOWN = "unknown"  # never loaded here: nothing has been measured
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADED = "unloaded"  # loaded when the next call comes
    FAILED = "failed"
    REFUSED = "refused"  # it has ended processes


class Build:
    """The bytes of one digest. ``runtime`` is None while they are not in memory; read it once per batch.

    ``answers``: a slot with traffic, or a shadow, has it. All but ``waiting`` belongs to ``BuildMemory``; only the event loop's thread adds to ``waiting``.
    """

    __slots__ = ("__weakref__", "_ask", "answers", "entry", "error", "facts", "loaded_at", "runtime", "state", "waiting")

    def __init__(self, entry: BuildEntry, ask: Ask, facts: Facts | None = None) -> None:
        self.entry, self.facts = entry, facts
        self.runtime: OnnxBuild | None = None
        self.state = State.UNKNOWN if facts is None else State.UNLOADED
        self.error = ""
        self.answers = False
        self.loaded_at = 0.0
        self.waiting: list[Waiter] = []
        self._ask = ask

    @property
    def outputs(self) -> list[str]:
        return list(self.known.outputs)

    @property
    def known(self) -> Facts:
        """What was measured; a build that has never been loaded is in no slot, so it is there."""
        if self.facts is None:
            raise ValueError(f"the build {self.entry.digest} was never loaded")
        return self.facts

    def call_for(self, waiter: Waiter) -> None:
        """Have the build loaded; ``waiter`` is called once. However many ask, it is loaded once."""
        self.waiting.append(waiter)
        self._ask(self)

    def arrive(self, runtime: OnnxBuild) -> None:
        """It is in memory: let those go on that waited for it, also if it had to make room or was refused meanwhile."""
        if self.state == State.REFUSED:
            self._wake(self.error)
            return
        if self.waiting:
            self.runtime, self.state = runtime, State.LOADED
        self._wake("")

    def stay_away(self, reason: str) -> None:
        """It could not be loaded."""
        self._wake(reason)

    def _wake(self, reason: str) -> None:
        waiting, self.waiting = self.waiting, []
        for waiter in waiting:
            waiter(reason)


class CompiledBuild:
    """A build with everything compiled from one version's signature."""

    def __init__(self, entry: BuildEntry, build: Build) -> None:
        self.entry = entry
        self.build = build
        self.spec = Spec(entry.signature)
        self.spec.batched = self.spec.batched and build.known.batchable
        self.codec = RowCodec(self.spec)
        self._filling: dict[frozenset[str], tuple[Spec, RowCodec]] = {}

    def filling(self, features: frozenset[str]) -> tuple[Spec, RowCodec]:
        """Give spec and codec for a policy that fills in ``features``. Made once: the types of a codec, frozen with a table, would stay for good."""
        if features not in self._filling:
            spec = self.spec.filling(features)
            self._filling[features] = (spec, RowCodec(spec))
        return self._filling[features]


class Builds:
    """The servable builds of a table. Two versions may share their bytes, and then the build too. ``refused``: digests that must not run."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self._exact: dict[tuple[str, str, int], CompiledBuild] = {}
        self._by_digest: dict[str, CompiledBuild] = {}

    def add(self, compiled: CompiledBuild) -> None:
        entry = compiled.entry
        self._exact[entry.digest, entry.model, entry.version] = compiled
        self._by_digest[entry.digest] = compiled

    def of(self, digest: str, model: str, version: int) -> CompiledBuild | None:
        """Give the build of that version, else one with the same bytes."""
        return self._exact.get((digest, model, version)) or self._by_digest.get(digest)

    def exactly(self, entry: BuildEntry, build: Build) -> CompiledBuild | None:
        """Give what was compiled from the same entry for the same bytes."""
        found = self._exact.get((entry.digest, entry.model, entry.version))
        return found if found is not None and found.build is build and (found.entry is entry or found.entry == entry) else None
