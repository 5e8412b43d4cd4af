"""The same request as a curl command, as Python and as Open Inference Protocol JSON, to copy. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from registry.signature import Feature, Layout, Signature, Tensor

_KEY = "$SIGNALBOX_KEY"


def curl(url: str, endpoint: str, row: Mapping[str, Any], key: str = _KEY) -> str:
    """A shell command; ``key`` is what the shell makes a key of, by default a variable of its environment."""
    body = json.dumps({"rows": [row]}, ensure_ascii=False)
    return f'curl {url}/v2/models/{endpoint}/predict \\\n  -H "Authorization: Bearer {key}" \\\n  -d {shlex.quote(body)}'


def python(url: str, endpoint: str, row: Mapping[str, Any]) -> str:
    """A program for httpx."""
    lines = json.dumps(row, indent=4, ensure_ascii=False).replace("\n", "\n        ")
    literal = lines.replace(": null", ": None").replace(": true", ": True").replace(": false", ": False")
    return (
        "import os\n\nimport httpx\n\n"
        f'answer = httpx.post(\n    "{url}/v2/models/{endpoint}/predict",\n'
        '    headers={"Authorization": f"Bearer {os.environ[\'SIGNALBOX_KEY\']}"},\n'
        f'    json={{"rows": [\n        {literal}\n    ]}},\n)\n'
        'answer.raise_for_status()\nprint(answer.json()["predictions"])'
    )


def oip(signature: Signature, row: Mapping[str, Any]) -> str:
    """The body of ``POST /v2/models/<endpoint>/infer``; a boolean goes into a tensor of numbers as 1 or 0."""
    values = {feature.name: row.get(feature.name) for feature in signature.features}
    if signature.layout is Layout.MATRIX:
        tensor = signature.inputs[0]
        inputs = [{"name": tensor.name, "shape": [1, len(values)], "datatype": tensor.datatype, "data": [_fit(value, tensor) for value in values.values()]}]
    else:
        inputs = [{"name": t.name, "shape": [1, 1], "datatype": t.datatype, "data": [_fit(values.get(t.name), t)]} for t in signature.inputs]
    return json.dumps({"inputs": inputs}, indent=2, ensure_ascii=False)


def _fit(value: Any, tensor: Tensor) -> Any:
    return int(value) if isinstance(value, bool) and tensor.datatype != "BOOL" else value


def example(features: tuple[Feature, ...]) -> dict[str, Any]:
    """A row to begin with: the sample's first values, else typical ones."""
    return {feature.name: feature.example if feature.example is not None else feature.typical for feature in features}
