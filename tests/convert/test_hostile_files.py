"""Hostile files: each is refused with a clear reason, and what it wanted to do did not happen."""

from __future__ import annotations

import io
import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from registry.convert import sandbox, wire
from registry.convert.check import SandboxLimits
from tests.convert import hostile
from tests.convert.conftest import Examination

Examine = Callable[..., Examination]
Open = Callable[..., sandbox.Outcome]


def refused(outcome: sandbox.Outcome) -> str:
    assert isinstance(outcome.answer, wire.Halted)
    assert outcome.answer.verdict == "refused"
    assert outcome.blobs == {}
    return outcome.answer.reason


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that the attacks want to write, in a directory where everybody could."""
    tmp_path.chmod(0o777)
    return tmp_path / "mark"


def commands(mark: Path) -> dict[str, bytes]:
    touch = f"touch {mark}"
    return {
        "os.system": hostile.pickled(hostile.Call(os.system, touch)),
        "protocol 0 global": hostile.global_call("os", "system", touch),
        "stack global": hostile.stack_global_call("os", "system", touch),
        "memoised stack global": hostile.stack_global_call("posix", "system", touch, memoised=True),
        "subprocess": hostile.pickled(hostile.Call(subprocess.call, ["touch", str(mark)])),
        "eval": hostile.pickled(hostile.Call(eval, f"open({str(mark)!r}, 'w')")),
        "getattr chain": hostile.chained(str(mark)),
        "reduce within reduce": hostile.pickled(hostile.Call(list, hostile.Call(os.system, touch))),
        "joblib.dump": hostile.pickled(hostile.Call(joblib.dump, 1, str(mark))),
        "numpy.savetxt": hostile.pickled(hostile.Call(np.savetxt, str(mark), [1.0])),
        "joblib with a hostile object array": _object_array(touch),
        "inside a fitted model": _inside_model(touch),
        "build on a class": b"\x80\x02csklearn.linear_model._logistic\nLogisticRegression\nN}X\x07\0\0\0predictcos\nsystem\ns\x86b.",
        "compressed": _compressed(hostile.Call(os.system, touch)),
    }


def _object_array(touch: str) -> bytes:
    sink = io.BytesIO()
    joblib.dump(np.array([hostile.Call(os.system, touch)], dtype=object), sink)
    return sink.getvalue()


def _inside_model(touch: str) -> bytes:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.classes_ = hostile.Call(os.system, touch)
    return hostile.pickled(model)


def _compressed(value: Any) -> bytes:
    sink = io.BytesIO()
    joblib.dump(value, sink, compress=("xz", 3))
    return sink.getvalue()


COMMANDS = list(commands(Path("/tmp/nowhere")))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pickle_that_calls_code_is_refused_by_name_and_nothing_runs(opened: Open, mark: Path, name: str) -> None:
    reason = refused(opened(commands(mark)[name]))
    assert "which is not on the list of names that a model may use" in reason
    assert not mark.exists()


@pytest.mark.parametrize("name", ["os.system", "protocol 0 global", "memoised stack global", "subprocess", "eval", "getattr chain"])
def test_the_first_look_refuses_without_starting_a_process(examined: Examine, mark: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_CHILD", Path("/nowhere"))
    found = examined(commands(mark)[name])
    assert found.result.verdict == "refused"
    assert "which is not on the list" in found.result.reason
    assert found.states == {"format": "failed", "signature": "skipped", "converted": "skipped", "agreement": "skipped", "speed": "skipped"}
    assert not mark.exists()


def test_a_custom_class_is_named_with_what_to_do(examined: Examine) -> None:
    found = examined(b"\x80\x04" + hostile.short_unicode("pipe") + hostile.short_unicode("Clean") + b"\x93)\x81.")
    assert found.result.verdict == "refused"
    assert found.result.reason == "The file uses the custom class pipe.Clean, whose code is not in the file."
    assert "export the whole model to ONNX" in found.result.advice


SKOPS = {
    "function": hostile.skops_with("os", "system", "FunctionNode", content="os.system"),
    "method": hostile.skops_with("sklearn.linear_model._logistic", "LogisticRegression", "MethodNode"),
    "operator": hostile.skops_with("operator", "attrgetter", "OperatorFuncNode"),
    "partial": hostile.skops_with("functools", "partial", "PartialNode"),
    "reduce": hostile.skops_with("builtins", "list", "ConstructorFromReduceNode"),
}


@pytest.mark.parametrize("name", SKOPS)
def test_skops_files_may_not_hold_what_calls_code(opened: Open, name: str) -> None:
    assert "Node, which calls code while it is read" in refused(opened(SKOPS[name], kind="skops"))


def test_a_skops_file_with_a_type_off_the_list_is_refused(opened: Open) -> None:
    assert "subprocess.Popen, which is not on the list" in refused(opened(hostile.skops_with("subprocess", "Popen", "ObjectNode"), kind="skops"))


def test_a_zip_bomb_is_refused_by_its_directory(examined: Examine) -> None:
    found = examined(hostile.zipped({"schema.json": b"{}", "bomb": b"\0" * 50_000_000}))
    assert found.result.verdict == "refused"
    assert "times its size" in found.result.reason


@pytest.mark.parametrize("bomb", [hostile.gzip_bomb, hostile.bz2_bomb])
def test_a_compressed_bomb_stops_at_the_memory_limit(opened: Open, bomb: Callable[[int], bytes]) -> None:
    limits = SandboxLimits(memory_bytes=2**30 - 2**28, cpu_s=30)
    reason = refused(opened(bomb(2**28), limits=limits))
    assert "memory" in reason or "processor time" in reason


def test_a_memory_bomb_is_refused(opened: Open) -> None:
    assert "memory" in refused(opened(hostile.memory_bomb()))


def test_a_file_that_keeps_the_processor_busy_is_ended(opened: Open) -> None:
    assert "processor time" in refused(opened(hostile.endless_hash(), limits=SandboxLimits(cpu_s=8)))


def test_a_file_that_takes_too_long_is_ended_with_its_group(opened: Open) -> None:
    assert "beyond its time limit" in refused(opened(hostile.pickled([1]), limits=SandboxLimits(timeout_s=0.2)))


@pytest.mark.parametrize("keep", [1, 2, 40, 300])
def test_a_truncated_file_is_refused(opened: Open, keep: int) -> None:
    model = hostile.pickled(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    assert "could not be read" in refused(opened(model[:keep]))


def test_a_file_that_holds_no_model_is_refused(opened: Open) -> None:
    assert refused(opened(hostile.pickled({"a": 1}))) == "The file holds a dict, not a scikit-learn model."


ONNX = {
    "external data": (hostile.external_data("/etc/passwd"), "lies in another file"),
    "negative feature": (hostile.tree_model(nodes_featureids=[-7, 0, 0]), "asks for feature -7"),
    "feature beyond the input": (hostile.tree_model(nodes_featureids=[2, 0, 0]), "asks for feature 2"),
    "short node array": (hostile.tree_model(nodes_values=[0.5]), "node arrays differ in length"),
    "tree that goes round": (hostile.tree_model(nodes_modes=["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], nodes_truenodeids=[1, 0, 0]), "do not form trees"),
    "leaf of no node": (hostile.tree_model(target_nodeids=[1, 9]), "does not exist"),
    "leaf of no target": (hostile.tree_model(target_ids=[0, 5]), "does not exist"),
    "short coefficients": (hostile.one_node("LinearRegressor", "ai.onnx.ml", 8, coefficients=[1.0], intercepts=[0.0]), "1 coefficients"),
    "short support vectors": (
        hostile.one_node("SVMRegressor", "ai.onnx.ml", 8, support_vectors=[1.0], n_supports=4, coefficients=[1.0]),
        "support vectors do not fit",
    ),
    "short tensor": (hostile.short_tensor(), "does not hold as many values"),
    "custom domain": (hostile.one_node("Anything", "com.example", 2), "com.example"),
    "loop": (hostile.one_node("Loop", "", 2), "operator Loop"),
    "truncated": (hostile.tree_model()[:-20], "no format that is known"),
}


@pytest.mark.parametrize("name", ONNX)
def test_a_hostile_onnx_file_is_refused_before_it_runs(examined: Examine, name: str) -> None:
    data, reason = ONNX[name]
    found = examined(data)
    assert found.result.verdict == "refused"
    assert reason in found.result.reason
    assert found.result.onnx is None


def test_the_same_onnx_file_without_the_fault_is_servable(examined: Examine) -> None:
    assert examined(hostile.tree_model()).result.verdict == "servable"


FORGERIES = {
    "nothing": "pass",
    "no report": "os.write(out, b'hello')",
    "a pickle": "os.write(out, __import__('pickle').dumps({}))",
    "endless": "\nwhile True: os.write(out, bytes(2**20))",
    "a header longer than the report": "os.write(out, (2**60).to_bytes(8, 'little') + b'{}')",
    "a blob longer than the report": 'os.write(out, head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","f8",[4],32]]}\'))',
    "an unknown kind": 'os.write(out, head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","O",[1],0]]}\'))',
    "the report of another job": 'os.write(out, head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[]}\'))',
    "an impossible shape": 'os.write(out, head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","f8",[-1,-1],8]]}\')+bytes(8))',
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_report_is_refused(examined: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        textwrap.dedent("""
        import json, os, sys
        out = json.loads(sys.argv[2])["report"]
        head = lambda text: len(text).to_bytes(8, "little") + text.encode()
        """)
        + FORGERIES[name]
    )
    monkeypatch.setattr(sandbox, "_CHILD", child)
    found = examined(hostile.tree_model(), limits=SandboxLimits(report_bytes=8 * 2**20, timeout_s=30))
    assert found.result.verdict == "refused"
    assert "report" in found.result.reason
    assert found.result.onnx is None


def test_the_child_gets_no_environment_and_no_descriptor_of_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os\nos.write(2, ('|'.join(sorted(os.environ)) + ' ' + str(len(os.listdir('/proc/self/fd')))).encode())\nos._exit(70)")
    monkeypatch.setattr(sandbox, "_CHILD", child)
    monkeypatch.setenv("SIGNALBOX_SECRET_KEY", "x")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        reason = refused(sandbox.run("convert", files={}, limits=SandboxLimits()))
    assert "SECRET" not in reason
    assert "HOME" not in reason
    assert " 5)" in reason  # three standard ones, the report, and the listing itself


def test_without_a_lockdown_only_onnx_is_taken(examined: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "can_confine", lambda: False)
    found = examined(hostile.pickled(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    assert found.result.verdict == "refused"
    assert found.result.reason == "The sandbox cannot be locked down on this machine, so only ONNX files are taken."
    assert examined(hostile.tree_model()).result.verdict == "servable"


def test_a_child_that_cannot_lock_itself_down_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; os.write(2, b'no Landlock\\n'); os._exit(70)"
    child = tmp_path / "child.py"
    child.write_text(code)
    monkeypatch.setattr(sandbox, "_CHILD", child)
    reason = refused(sandbox.run("convert", files={"original": hostile.pickled(1)}, limits=SandboxLimits(), arguments={"kind": "pickle"}))
    assert "could not be locked down on this machine (no Landlock)" in reason
