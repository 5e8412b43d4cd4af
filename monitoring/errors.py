"""What monitoring refuses.

SignalboxError
├── NotFound
│   ├── NoSuchEndpoint
│   ├── NoSuchFeature
│   └── NoSuchAlert
├── Conflict
│   └── AlertIsClosed
└── Invalid
    ├── WrongOutcomes      the file or body cannot be read as outcomes
    └── Unprocessable
        ├── WrongRule      a limit outside its range; nothing was changed
        └── NoReference    there is nothing to compare with
"""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound, Unprocessable


class NoSuchEndpoint(NotFound):
    code = "no_such_endpoint"


class NoSuchFeature(NotFound):
    code = "no_such_feature"


class NoSuchAlert(NotFound):
    code = "no_such_alert"


class AlertIsClosed(Conflict):
    code = "alert_is_closed"


class WrongOutcomes(Invalid):
    code = "wrong_outcomes"


class WrongRule(Unprocessable):
    code = "wrong_rule"


class NoReference(Unprocessable):
    code = "no_reference"
