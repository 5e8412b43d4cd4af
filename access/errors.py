"""What can go wrong with people and keys.

SignalboxError
├── Invalid
│   └── NameNotAllowed      400  a user name, key name or address of the wrong form
├── Unprocessable
│   └── LastAdmin           422  Signalbox would be left without an admin
├── NotSignedIn
│   ├── KeyNotValid         401  unknown, mistyped, expired or revoked
│   └── LinkNotValid        401  unknown, used, too old, or for somebody who is locked out
└── Conflict
    └── NameTaken           409
"""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotSignedIn, Unprocessable


class NameNotAllowed(Invalid):
    code = "name_not_allowed"


class LastAdmin(Unprocessable):
    code = "last_admin"


class KeyNotValid(NotSignedIn):
    code = "key_not_valid"


class LinkNotValid(NotSignedIn):
    code = "link_not_valid"


class NameTaken(Conflict):
    code = "name_taken"
