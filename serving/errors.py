"""The exceptions of serving.

Conflict             409
└── Overtaken        409  the endpoint was changed after the caller looked; nothing was overwritten
Unprocessable        422
├── Incompatible     422  the version takes or gives other columns than what is live
└── NothingEarlier   422  there is no earlier state to roll back to
Unavailable          503
└── DataPlaneAway    503  no data-plane process answers
"""

from __future__ import annotations

from core.errors import Conflict, Unavailable, Unprocessable


class Overtaken(Conflict):
    code = "overtaken"


class Incompatible(Unprocessable):
    code = "incompatible"


class NothingEarlier(Unprocessable):
    code = "nothing_earlier"


class DataPlaneAway(Unavailable):
    code = "data_plane_away"
