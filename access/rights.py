"""The rights, and which role or key scope has which. Pure data; ``access.permissions`` enforces it."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """Named ``<subject>.<verb>``; a refusal names the one that is missing."""

    MODEL_VIEW = "model.view"
    MODEL_REGISTER = "model.register"
    MODEL_EDIT = "model.edit"
    MODEL_DELETE = "model.delete"
    MODEL_DOWNLOAD = "model.download"
    ENDPOINT_VIEW = "endpoint.view"
    ENDPOINT_CREATE = "endpoint.create"
    ENDPOINT_DEPLOY = "endpoint.deploy"
    ENDPOINT_SPLIT = "endpoint.split"
    ENDPOINT_PROMOTE = "endpoint.promote"
    ENDPOINT_ROLL_BACK = "endpoint.roll_back"
    ENDPOINT_EDIT = "endpoint.edit"
    ENDPOINT_DELETE = "endpoint.delete"
    ENDPOINT_LOAD = "endpoint.load"
    PREDICT = "endpoint.predict"
    PREDICTIONS_VIEW = "predictions.view"
    PREDICTIONS_EXPORT = "predictions.export"
    PREDICTIONS_UNMASK = "predictions.unmask"
    OUTCOMES_SEND = "outcomes.send"
    MONITORING_EDIT = "monitoring.edit"
    ALERT_HANDLE = "alert.handle"
    AUDIT_VIEW = "audit.view"
    KEY_MANAGE = "key.manage"
    PEOPLE_MANAGE = "people.manage"
    SYSTEM_VIEW = "system.view"


READ_RIGHTS = frozenset({Right.MODEL_VIEW, Right.ENDPOINT_VIEW, Right.PREDICTIONS_VIEW, Right.AUDIT_VIEW, Right.SYSTEM_VIEW})
_SCIENTIST = frozenset({Right.MODEL_REGISTER, Right.MODEL_EDIT, Right.MODEL_DOWNLOAD, Right.PREDICT, Right.OUTCOMES_SEND, Right.PREDICTIONS_EXPORT})
_OPERATOR = frozenset(
    {
        Right.MODEL_DELETE,
        Right.ENDPOINT_CREATE,
        Right.ENDPOINT_DEPLOY,
        Right.ENDPOINT_SPLIT,
        Right.ENDPOINT_PROMOTE,
        Right.ENDPOINT_ROLL_BACK,
        Right.ENDPOINT_EDIT,
        Right.ENDPOINT_DELETE,
        Right.ENDPOINT_LOAD,
        Right.MONITORING_EDIT,
        Right.ALERT_HANDLE,
    }
)
ADMIN_RIGHTS = frozenset(Right)

RIGHTS_OF_ROLE: dict[str, frozenset[Right]] = {
    "viewer": READ_RIGHTS,
    "scientist": READ_RIGHTS | _SCIENTIST,
    "operator": READ_RIGHTS | _SCIENTIST | _OPERATOR,
    "admin": ADMIN_RIGHTS,
}
RIGHTS_OF_SCOPE: dict[str, frozenset[Right]] = {
    "predict": frozenset({Right.PREDICT}),
    "read": READ_RIGHTS,
    "outcomes": frozenset({Right.OUTCOMES_SEND}),
    "register": READ_RIGHTS | {Right.MODEL_REGISTER, Right.MODEL_EDIT},
    "operate": READ_RIGHTS | _SCIENTIST | _OPERATOR,
    "admin": ADMIN_RIGHTS,
}


def lowest_role_with(right: Right) -> str:
    """Name the least role that has ``right``, for the text of a refusal."""
    return next(role for role, rights in RIGHTS_OF_ROLE.items() if right in rights)
