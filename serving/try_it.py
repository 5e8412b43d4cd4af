"""Try it: ask the data plane for a prediction on a person's behalf, as any client would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from django.conf import settings

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Invalid, NotFound, SignalboxError, TooLarge, TooMany, Unavailable, Unprocessable
from serving import console_key, routes
from serving.errors import DataPlaneAway
from serving.models import Slot

TIMEOUT_S = 5.0
# A table published just now reaches the data plane within a second.
_KEY_ARRIVES_WITHIN_S = 3.0
_ERRORS: dict[int, type[SignalboxError]] = {400: Invalid, 404: NotFound, 413: TooLarge, 422: Unprocessable, 429: TooMany}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the data plane answered; ``predictions`` has one entry per row, ``took_ms`` is as this process saw it."""

    prediction_id: str
    endpoint: str
    slot: str
    model: str
    version: int
    predictions: list[dict[str, Any]]
    took_ms: float


def ask(*, actor: Actor, endpoint: str, rows: Sequence[dict[str, Any]], slot: str | None = None) -> Answer:
    """Predict ``rows`` through the data plane: by the split, or by the version in ``slot``.

    Raises what the data plane says in its own words (Invalid, NotFound, Unprocessable, ...), DataPlaneAway if it does not answer.
    """
    require(actor, Right.PREDICT, f"endpoint:{endpoint}")
    version = f"/versions/{_version_in(endpoint, slot)}" if slot else ""
    url = f"{settings.ENVIRONMENT.predict_url}/v2/models/{endpoint}{version}/predict"
    begun = time.perf_counter()
    response = _send(url, {"rows": list(rows)})
    took_ms = (time.perf_counter() - begun) * 1000
    body = _body(response)
    return Answer(
        prediction_id=str(body.get("prediction_id", "")),
        endpoint=endpoint,
        slot=str(body.get("slot", "")),
        model=str(body.get("model", "")),
        version=int(body.get("version", 0)),
        predictions=body.get("predictions", []),
        took_ms=took_ms,
    )


def _version_in(endpoint: str, slot: str) -> int:
    version = Slot.objects.filter(endpoint__name=endpoint, name=slot).values_list("build__version__number", flat=True).first()
    if version is None:
        raise NotFound(f"There is no version in the slot {slot} of {endpoint}. Deploy one to it first.")
    return version


def _send(url: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"Authorization": f"Bearer {console_key.text()}"}
    deadline = time.monotonic() + _KEY_ARRIVES_WITHIN_S
    try:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            response = client.post(url, json=body, headers=headers)
            if response.status_code == 401:  # the published table knows another secret key
                routes.publish()
            while response.status_code == 401 and time.monotonic() < deadline:
                time.sleep(0.1)
                response = client.post(url, json=body, headers=headers)
            return response
    except httpx.TimeoutException as error:
        raise DataPlaneAway(f"The data plane did not answer within {TIMEOUT_S:.0f} s. The system page shows its processes.") from error
    except httpx.HTTPError as error:
        raise DataPlaneAway("The data plane cannot be reached. The system page shows its processes; `signalbox up` starts them.") from error
    except ValueError as error:  # json= refuses NaN
        raise Invalid(f"These rows cannot be sent as JSON: {error}.") from error


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success and isinstance(body, dict):
        return body
    said = body.get("error", "") if isinstance(body, dict) else ""
    raise _ERRORS.get(response.status_code, Unavailable)(said or f"The data plane answered {response.status_code} without a text.")
