"""The bytes of builds: from the artifact store, with a copy of our own that outlives it, and what was measured of them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from core.digests import artifact_path, digest_of_file
from core.environment import ROOT
from serving.runtimes.onnx import PREPARED_SUFFIX, RUNTIME, Facts, LoadFailed, OnnxBuild, write_prepared
from serving.runtimes.prepare import holds_trees
from serving.table import BuildEntry

logger = logging.getLogger(__name__)

HEAVY_BYTES = 8 * 2**20
"""One process of the machine at a time loads a build of this size or more: it takes seconds of a core."""
PREPARED_FROM_BYTES = 2**20
"""Tree ensembles of this size or more are loaded from a prepared form."""
_PREPARED_WITHIN_S = 300.0
"""No build is given longer to be prepared: the machine's other processes wait for their turn meanwhile."""
_CRASHES = 2
_AT_ONCE_S = 1.0
"""Markers closer together than this are one crash: processes that were ended together, say by a power cut."""
_CRASH_MEMORY_S = 3600
_YOUNG_S = 600
"""Younger files are not cleared away: a process that has a newer table, or another ONNX Runtime, may just have made or loaded them."""
_decode_facts = msgspec.json.Decoder(Facts).decode


class BuildStore:
    """Folders under ``folder``: ``builds`` (copies), ``prepared`` (what loads into less memory, by the version of ONNX Runtime),
    ``facts`` (measurements), ``loading`` (who is loading what). A file that is being written has its digest and the process in its name.
    """

    def __init__(self, folder: Path, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._copies, self._facts, self._markers = folder / "builds", folder / "facts", folder / "loading"
        self._prepared = folder / "prepared" / RUNTIME
        for each in (self._copies, self._prepared, self._facts, self._markers):
            each.mkdir(parents=True, exist_ok=True)
        self._turn = folder / "loading.lock"
        self._preparing: subprocess.Popen[bytes] | None = None
        self._is_ending = False

    def load(self, entry: BuildEntry) -> OnnxBuild:
        """Load and warm a build; raises LoadFailed, also for one that has killed processes before."""
        if entry.kind == "native":
            raise LoadFailed("This build has no ONNX form, and the data plane runs ONNX only.")
        with self._in_turn(entry.size_bytes):
            file = self._file(entry.digest)
            self._refuse_killer(entry.digest)
            marker = self._markers / f"{entry.digest}.{os.getpid()}"
            marker.touch()
            try:
                return self._loaded(entry, file)
            finally:
                marker.unlink(missing_ok=True)

    def _loaded(self, entry: BuildEntry, file: Path) -> OnnxBuild:
        facts = self.facts(entry.digest)  # what another process has measured meanwhile need not be measured again
        if entry.size_bytes >= PREPARED_FROM_BYTES and holds_trees(file):
            try:
                return OnnxBuild(self._prepare(entry, file), entry.signature, facts)
            except (LoadFailed, OSError, subprocess.SubprocessError) as error:
                logger.warning("%s version %d is loaded as it is, into more memory: %s", entry.model, entry.version, error)
        return OnnxBuild(file, entry.signature, facts)

    def _prepare(self, entry: BuildEntry, file: Path) -> Path:
        """Give the prepared form, made if it is not there. Its name has its own digest."""
        self._prepared.mkdir(exist_ok=True)  # one with another ONNX Runtime may have cleared it away
        for path in self._prepared.glob(f"{entry.digest}.*{PREPARED_SUFFIX}"):
            if path.name == f"{entry.digest}.{digest_of_file(path)}{PREPARED_SUFFIX}":
                os.utime(path)
                return path
            path.unlink(missing_ok=True)
        partial = self._prepared / f"{entry.digest}.{os.getpid()}"
        try:
            if entry.size_bytes < HEAVY_BYTES:
                write_prepared(file, partial)
            else:
                self._prepare_elsewhere(file, partial)
            return partial.rename(self._prepared / f"{entry.digest}.{digest_of_file(partial)}{PREPARED_SUFFIX}")
        finally:
            partial.unlink(missing_ok=True)

    def _prepare_elsewhere(self, file: Path, partial: Path) -> None:
        command: list[str | Path] = [sys.executable, "-m", "serving.runtimes.prepare", file, partial]
        with subprocess.Popen(command, cwd=ROOT) as self._preparing:
            try:
                code = self._preparing.wait(0 if self._is_ending else _PREPARED_WITHIN_S)
            finally:
                self._preparing.kill()
        if code:
            raise subprocess.CalledProcessError(code, command)

    def facts(self, digest: str) -> Facts | None:
        """Give what was measured of a build on this machine, by this version of ONNX Runtime."""
        try:
            facts = _decode_facts((self._facts / digest).read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None
        return facts if facts.is_current else None

    def born_at(self, digest: str) -> float:
        """Give when the build was first measured here, in seconds since 1970; now for one that never was."""
        try:
            return (self._facts / digest).stat().st_mtime
        except OSError:
            return time.time()

    def keep_facts(self, digest: str, facts: Facts) -> None:
        """Keep them for the next start; that it fails costs only time then."""
        partial = self._facts / f"{digest}.{os.getpid()}"
        try:
            partial.write_bytes(msgspec.json.encode(facts))
            partial.rename(self._facts / digest)
        except OSError as error:
            logger.warning("What was measured of the build %s cannot be kept: %s", digest[:12], error)
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _in_turn(self, size_bytes: int) -> Iterator[None]:
        """Wait until no other process of this machine loads a heavy build. The kernel ends the turn of one that dies."""
        if size_bytes < HEAVY_BYTES:
            yield
            return
        with self._turn.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, digest: str) -> Path:
        """Give a file with these bytes, and keep a copy of it."""
        copy = self._copies / digest
        for path in (artifact_path(self._artifacts, digest), copy):
            try:
                found = digest_of_file(path)
            except FileNotFoundError:
                continue
            if found != digest:
                logger.error("%s does not have the digest that its name says; it is not used.", path)
                continue
            if path != copy:
                _keep_copy(path, copy)
            return path
        raise LoadFailed(f"The file {digest[:12]} is not in the artifact store, or was changed. Restore it, or deploy another version.")

    def _refuse_killer(self, digest: str) -> None:
        """A marker that a dead process left says that it died while loading this build."""
        times: list[float] = []
        for marker in self._markers.glob(f"{digest}.*"):
            if _is_running(int(marker.suffix[1:])):
                continue
            with contextlib.suppress(FileNotFoundError):
                begun = marker.stat().st_mtime
                if time.time() - begun > _CRASH_MEMORY_S:
                    marker.unlink()
                else:
                    times.append(begun)
        times.sort()
        crashes = sum(place == 0 or begun - times[place - 1] > _AT_ONCE_S for place, begun in enumerate(times))
        if crashes >= _CRASHES:
            raise LoadFailed(f"Loading this build ended processes {crashes} times within the hour. Deploy another version.")

    def end_loading(self) -> None:
        """End what prepares a build, and take this process's markers away: it ends because it was asked to, not because of a build."""
        self._is_ending = True
        if self._preparing is not None:
            self._preparing.kill()
        for marker in self._markers.glob(f"*.{os.getpid()}"):
            marker.unlink(missing_ok=True)

    def forget_all_but(self, digests: set[str]) -> None:
        """Clear away what is kept of other builds and for another ONNX Runtime, but for the young: they are left to the next table.

        What dead processes were writing goes at once.
        """
        until = time.time() - _YOUNG_S
        for folder in (self._copies, self._facts, self._prepared):
            _clear(folder, digests, until)
        for folder in self._prepared.parent.glob("*/"):
            if folder != self._prepared:
                _clear(folder, set(), until)
                with contextlib.suppress(OSError):  # it is not empty yet
                    folder.rmdir()


def _clear(folder: Path, digests: set[str], until: float) -> None:
    """Remove what is of no such digest and older, and what a dead process was writing. Other processes do so at the same time."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            is_left = _is_left(path)
            if path.name.partition(".")[0] in digests and not is_left:
                continue
            # The change time: a copy that is a link has the modification time of the artifact.
            with contextlib.suppress(FileNotFoundError):
                if is_left or path.stat().st_ctime < until:
                    path.unlink()


def _is_left(path: Path) -> bool:
    """Tell whether a process that has died was writing this file."""
    return path.suffix[1:].isdecimal() and not _is_running(int(path.suffix[1:]))


def _keep_copy(path: Path, copy: Path) -> None:
    """Link, or copy across file systems; that it fails costs only the safety of a copy."""
    if copy.exists():
        return
    try:
        os.link(path, copy)
    except FileExistsError:
        pass
    except OSError:
        partial = copy.with_suffix(f".{os.getpid()}")
        try:
            shutil.copyfile(path, partial)
            partial.rename(copy)
        except OSError as error:
            logger.warning("No copy of the build %s can be kept: %s", copy.name[:12], error)
            partial.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
