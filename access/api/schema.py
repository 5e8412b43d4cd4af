"""How the OpenAPI document is made: operations named by method and address, and the one form of every error."""

from __future__ import annotations

import re
from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema

from access.api.problems import CONTENT_TYPE, Problem

_PREFIX = "/api/v1/"


class Schema(AutoSchema):
    """For each view of the REST API, by setting."""

    def get_operation_id(self) -> str:
        """``get_models_name_versions`` of GET ``/api/v1/models/{name}/versions/``: unique, since addresses are."""
        words = re.findall(r"\w+", self.path.removeprefix(_PREFIX))
        return "_".join([self.method.lower(), *words])

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        problem = self._get_response_for_code(Problem, "default", media_types=[CONTENT_TYPE], direction=direction)  # type: ignore[no-untyped-call]  # untyped there
        return bodies | {"default": problem | {"description": "What went wrong, where, and what to do (RFC 9457)."}}
