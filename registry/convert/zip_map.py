"""Takes out the ZipMap with which a classifier's usual export ends: a map for each row becomes one tensor of probabilities."""

from __future__ import annotations

from typing import Any

from registry.convert.verdict import Refused

_FLOAT, _LABELS = 1, {7, 8}
_WITHOUT = "Export the model with zipmap=False."


def take_out(model: Any) -> tuple[str, ...] | None:
    """Make the input of a ZipMap that gives the second of two outputs the output itself; gives its classes, in the order of the columns.

    Changes ``model``, which is not checked yet. A ZipMap anywhere else stays, for the check to refuse. Raises Refused for one whose
    classes are not told apart.
    """
    graph = model.graph
    if len(graph.output) != 2 or graph.output[0].type.tensor_type.elem_type not in _LABELS:
        return None
    last = next((node for node in graph.node if _gives_only(node, graph.output[1].name)), None)
    if last is None or not _is_only_an_output(graph, last):
        return None
    classes = _classes(last)
    graph.node.remove(last)
    del graph.output[1:]
    _add_probabilities(graph, last.input[0], len(classes))
    return classes


def check_width(classes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Raise Refused when the probabilities are not one for each class: the names would stand at the wrong numbers."""
    if shape[1:] != (len(classes),):
        raise Refused(f"The ZipMap of the ONNX file names {len(classes)} classes and gets {shape[-1] if shape else 1} probabilities a row.", _WITHOUT)


def _gives_only(node: Any, name: str) -> bool:
    return (node.domain, node.op_type) == ("ai.onnx.ml", "ZipMap") and len(node.input) == 1 and list(node.output) == [name]


def _is_only_an_output(graph: Any, node: Any) -> bool:
    """Whether nothing uses what ``node`` gives, and what it takes is computed in the graph and not an output already."""
    is_used = any(node.output[0] in other.input for other in graph.node)
    is_computed = any(node.input[0] in other.output for other in graph.node)
    return is_computed and not is_used and node.input[0] != graph.output[0].name


def _classes(node: Any) -> tuple[str, ...]:
    lists = {attribute.name: attribute for attribute in node.attribute}
    texts = [text.decode("utf-8", "replace") for text in lists["classlabels_strings"].strings] if "classlabels_strings" in lists else []
    numbers = [str(number) for number in lists["classlabels_int64s"].ints] if "classlabels_int64s" in lists else []
    classes = tuple(texts or numbers)
    if not classes or (texts and numbers) or len(set(classes)) < len(classes):
        raise Refused("The ZipMap of the ONNX file does not name each class once.", _WITHOUT)
    return classes


def _add_probabilities(graph: Any, name: str, width: int) -> None:
    from onnx import helper

    for info in [info for info in graph.value_info if info.name == name]:
        graph.value_info.remove(info)
    graph.output.append(helper.make_tensor_value_info(name, _FLOAT, [None, width]))
