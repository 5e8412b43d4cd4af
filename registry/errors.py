"""What can go wrong with models and versions.

SignalboxError
├── Invalid
│   └── NotAllowed         400  a name, tag or metric of the wrong form
├── Unprocessable
│   ├── NotReady           422  the version is still being checked, or was refused
│   └── InUse              422  an alias or a slot holds the version
├── NotFound
│   ├── ModelNotFound      404
│   ├── VersionNotFound    404
│   └── AliasNotFound      404
└── Conflict
    └── Changed            409  somebody else changed it first
"""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound, Unprocessable


class NotAllowed(Invalid):
    code = "not_allowed"


class NotReady(Unprocessable):
    code = "not_ready"


class InUse(Unprocessable):
    code = "in_use"


class ModelNotFound(NotFound):
    code = "model_not_found"


class VersionNotFound(NotFound):
    code = "version_not_found"


class AliasNotFound(NotFound):
    code = "alias_not_found"


class Changed(Conflict):
    code = "changed"
