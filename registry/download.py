"""Gives out the bytes of a version. A right of its own, and every download is in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from access import audit
from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import NotFound
from registry import storage
from registry.find import version_numbered
from registry.models import Build, Version


@dataclass(frozen=True, slots=True)
class Download:
    """An open file; whoever gets it closes it. ``filename`` is safe in a header, not a path."""

    file: BinaryIO
    filename: str
    digest: str
    size_bytes: int


def download(*, actor: Actor, model: str, version: int, what: str = "original") -> Download:
    """Open ``original``, ``sample``, ``reference`` or a build (``onnx``) of the version. Raises NotFound."""
    require(actor, Right.MODEL_DOWNLOAD, f"model:{model}")
    row = version_numbered(model, version)
    filename, digest, size_bytes = _named(row, what)
    file = storage.open_artifact(digest)
    audit.record(actor=actor, verb="download", subject_kind="version", subject_name=str(row), after={"what": what, "digest": digest})
    return Download(file, filename, digest, size_bytes)


def _named(version: Version, what: str) -> tuple[str, str, int]:
    if what in Build.Kind.values:
        build = version.builds.filter(kind=what).first()
        if build:
            return f"{version.model.name}-v{version.number}.{what}.onnx", build.digest, build.size_bytes
    else:
        artifact = version.artifacts.filter(role=what).first()
        if artifact:
            return artifact.filename, artifact.digest, artifact.size_bytes
    raise NotFound(f"{version} has no {what[:40]!r} to download.")
