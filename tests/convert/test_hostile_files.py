"""Hostile files: each is refused with a clear reason, and what it wanted to do did not happen."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from registry.convert import sandbox, wire
from registry.convert.check import SandboxLimits
from registry.convert.limits import NOBODY
from tests.convert import hostile
from tests.convert.conftest import Examination, children_of_template, open_each

Examine = Callable[..., Examination]
Open = Callable[..., sandbox.Outcome]


def refused(outcome: sandbox.Outcome) -> str:
    assert isinstance(outcome.answer, wire.Halted)
    assert outcome.answer.verdict == "refused"
    assert outcome.blobs == {}
    return outcome.answer.reason


@pytest.fixture
def mark(open_folder: Path) -> Path:
    """The file that an attack wants to write, in a folder where everybody could."""
    return open_folder / "mark"


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
        "partial": hostile.pickled(functools.partial(os.system, touch)),
        "joblib.dump": hostile.pickled(hostile.Call(joblib.dump, 1, str(mark))),
        "numpy.savetxt": hostile.pickled(hostile.Call(np.savetxt, str(mark), [1.0])),
        "joblib with a hostile object array": _object_array(touch),
        "inside a fitted model": _inside_model(touch),
        "build on a class": b"\x80\x02csklearn.linear_model._logistic\nLogisticRegression\nN}X\x07\0\0\0predictcos\nsystem\ns\x86b.",
        "scorers that give any attribute": hostile.through_scorers(f"open({str(mark)!r}, 'w')"),
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
SKOPS = {
    "method": hostile.skops_with("sklearn.linear_model._logistic", "LogisticRegression", "MethodNode"),
    "operator": hostile.skops_with("operator", "attrgetter", "OperatorFuncNode"),
    "reduce": hostile.skops_with("builtins", "list", "ConstructorFromReduceNode"),
}
SYSTEM = {"__module__": "os", "__class__": "system", "__loader__": "FunctionNode"}
SKOPS_NAMES = {
    "type": (hostile.skops_with("subprocess", "Popen", "ObjectNode"), "subprocess.Popen"),
    "function": (hostile.skops_with("os", "system", "FunctionNode"), "os.system"),
    "function of an older skops": (hostile.skops_with("numpy", "log1p", "FunctionNode", content={"module_path": "os", "function": "system"}), "os.system"),
    "partial": (hostile.skops_with("functools", "partial", "PartialNode", content={"func": SYSTEM}), "os.system"),
}
KEPT = (1, 2, 40, 300)


@pytest.fixture(scope="module")
def outcomes(open_folder: Path) -> dict[str, sandbox.Outcome]:
    """What became of the pickles and skops files, past the first look, each with a mark of its own."""
    model = hostile.pickled(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    pickles = {name: commands(open_folder / f"mark-{place}")[name] for place, name in enumerate(COMMANDS)}
    pickles |= {f"the first {keep} bytes": model[:keep] for keep in KEPT} | {"no model": hostile.pickled({"a": 1}), "memory": hostile.memory_bomb()}
    files = {name: ("pickle", data) for name, data in pickles.items()} | {f"skops {name}": ("skops", data) for name, data in SKOPS.items()}
    return open_each(files | {f"skops {name}": ("skops", data) for name, (data, _) in SKOPS_NAMES.items()})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_pickle_that_calls_code_is_refused_by_name_and_nothing_runs(outcomes: dict[str, sandbox.Outcome], open_folder: Path, name: str) -> None:
    assert "which is not on the list of names that a model may use" in refused(outcomes[name])
    assert not (open_folder / f"mark-{COMMANDS.index(name)}").exists()


def test_the_first_look_refuses_what_a_pickle_calls_without_reading_it(mark: Path) -> None:
    names = ["os.system", "protocol 0 global", "memoised stack global", "subprocess", "eval", "getattr chain"]
    seen = open_each({name: ("pickle", commands(mark)[name]) for name in names}, job="look")
    assert all("which is not on the list" in refused(outcome) for outcome in seen.values())
    assert not mark.exists()


def test_what_the_first_look_refuses_is_not_converted(examined: Examine, mark: Path) -> None:
    found = examined(commands(mark)["os.system"])
    assert found.states == {"format": "failed", "signature": "skipped", "converted": "skipped", "agreement": "skipped", "speed": "skipped"}
    assert "posix.system, which is not on the list" in found.result.reason


def test_a_zip_with_a_huge_directory_is_read_within_the_limits_of_the_sandbox(examined: Examine) -> None:
    found = examined(hostile.zip_of_directory(20_001))
    assert (found.result.verdict, found.result.reason) == ("refused", "The archive holds 20,001 files; at most 20,000 are taken.")
    found = examined(hostile.zip_of_directory(400_000), limits=SandboxLimits(memory_bytes=2**29 + 2**27))
    assert (found.result.verdict, found.result.reason) == ("refused", "The file needs more memory than a sandbox process may use.")


def test_a_custom_class_is_named_with_what_to_do(examined: Examine) -> None:
    found = examined(b"\x80\x04" + hostile.short_unicode("pipe") + hostile.short_unicode("Clean") + b"\x93)\x81.")
    assert found.result.verdict == "refused"
    assert found.result.reason == "The file uses pipe.Clean, whose code is not in the file."
    assert "export the whole model to ONNX" in found.result.advice


@pytest.mark.parametrize("name", SKOPS)
def test_skops_files_may_not_hold_what_calls_code(outcomes: dict[str, sandbox.Outcome], name: str) -> None:
    assert "Node, which calls code while it is read" in refused(outcomes[f"skops {name}"])


@pytest.mark.parametrize("name", SKOPS_NAMES)
def test_a_skops_file_with_a_name_off_the_list_is_refused(outcomes: dict[str, sandbox.Outcome], name: str) -> None:
    assert f"{SKOPS_NAMES[name][1]}, which is not on the list" in refused(outcomes[f"skops {name}"])


def test_a_zip_bomb_is_refused_by_its_directory(examined: Examine) -> None:
    found = examined(hostile.zipped({"schema.json": b"{}", "bomb": b"\0" * 50_000_000}))
    assert found.result.verdict == "refused"
    assert "times its size" in found.result.reason


def test_a_compressed_bomb_stops_at_the_memory_limit() -> None:
    bombs = {"gzip": ("pickle", hostile.gzip_bomb(2**27)), "bz2": ("pickle", hostile.bz2_bomb(2**27))}
    found = open_each(bombs, limits=SandboxLimits(memory_bytes=2**30 - 2**28, cpu_s=30))
    assert "memory" in refused(found["gzip"])
    assert "memory" in refused(found["bz2"])


def test_a_memory_bomb_is_refused(outcomes: dict[str, sandbox.Outcome]) -> None:
    assert "memory" in refused(outcomes["memory"])


def test_a_file_that_keeps_the_processor_busy_is_ended(opened: Open) -> None:
    assert "processor time" in refused(opened(hostile.endless_hash(), limits=SandboxLimits(cpu_s=1)))


def test_a_file_that_takes_too_long_is_ended(opened: Open) -> None:
    assert "beyond its time limit" in refused(opened(hostile.endless_hash(), limits=SandboxLimits(timeout_s=0.5)))


@pytest.mark.parametrize("keep", KEPT)
def test_a_truncated_file_is_refused(outcomes: dict[str, sandbox.Outcome], keep: int) -> None:
    assert "could not be read" in refused(outcomes[f"the first {keep} bytes"])


def test_a_file_that_holds_no_model_is_refused(outcomes: dict[str, sandbox.Outcome]) -> None:
    assert refused(outcomes["no model"]) == "The file holds a dict, not a scikit-learn model."


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
    "ZipMap in the middle": (hostile.zip_mapped(after="Identity"), "has a ZipMap that does not make the second"),
    "ZipMap of a class named twice": (hostile.zip_mapped(classes=(1, 1)), "does not name each class once"),
    "ZipMap of no class": (hostile.zip_mapped(classes=()), "does not name each class once"),
    "ZipMap with more classes": (hostile.zip_mapped(classes=(0, 1, 2)), "names 3 classes and gets 2 probabilities"),
    "ZipMap with fewer classes": (hostile.zip_mapped(classes=(1,)), "names 1 classes and gets 2 probabilities"),
    "loop before a ZipMap": (hostile.zip_mapped(nodes=(hostile.loop(),)), "operator Loop"),
    "short coefficients before a ZipMap": (hostile.zip_mapped(coefficients=[1.0, 2.0, 3.0]), "3 coefficients"),
}


@pytest.fixture(scope="module")
def inspected() -> dict[str, sandbox.Outcome]:
    return open_each({name: ("onnx", data) for name, (data, _) in ONNX.items()}, job="inspect")


@pytest.mark.parametrize("name", ONNX)
def test_a_hostile_onnx_file_is_refused_before_it_runs(inspected: dict[str, sandbox.Outcome], name: str) -> None:
    assert ONNX[name][1] in refused(inspected[name])


@pytest.mark.parametrize("name", ["feature beyond the input", "ZipMap in the middle", "ZipMap with fewer classes"])
def test_a_hostile_onnx_file_gets_no_build(examined: Examine, name: str) -> None:
    data, reason = ONNX[name]
    found = examined(data)
    assert found.result.verdict == "refused"
    assert reason in found.result.reason
    assert found.result.onnx is None


def test_a_truncated_onnx_file_is_refused_at_the_first_look(examined: Examine) -> None:
    found = examined(hostile.tree_model()[:-20])
    assert found.result.verdict == "refused"
    assert "no format that is known" in found.result.reason
    assert found.result.onnx is None


def test_the_same_onnx_file_without_the_fault_is_servable(examined: Examine) -> None:
    assert examined(hostile.tree_model()).result.verdict == "servable"


FORGERIES = {
    "nothing": "os._exit(0)",
    "no report": "return b'hello'",
    "a pickle": "return __import__('pickle').dumps({})",
    "endless": "while True: os.write(report(), bytes(2**20))",
    "a header longer than the report": "return (2**60).to_bytes(8, 'little') + b'{}'",
    "a blob longer than the report": 'return head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","f8",[4],32]]}\')',
    "an unknown kind": 'return head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","O",[1],0]]}\')',
    "the report of another job": 'return head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[]}\')',
    "an impossible shape": 'return head(\'{"answer":{"type":"answered","rows":1,"single_row_ms":1},"blobs":[["in.x","f8",[-1,-1],8]]}\')+bytes(8)',
}


@pytest.mark.parametrize(("name", "looks_first"), [*((name, True) for name in FORGERIES), ("no report", False), ("the report of another job", False)])
def test_a_forged_report_is_refused(examined: Examine, own_template: Callable[[str], Path], name: str, looks_first: bool) -> None:
    own_template(f"""
        head = lambda text: len(text).to_bytes(8, "little") + text.encode()
        def do(job, files, arguments):
            if job == "look" and {looks_first}:
                return looked("ONNX")
            {FORGERIES[name]}
    """)
    found = examined(hostile.tree_model(), limits=SandboxLimits(report_bytes=8 * 2**20, timeout_s=30))
    assert found.result.verdict == "refused"
    assert "report" in found.result.reason
    assert found.states["format"] == ("passed" if looks_first else "failed")
    assert found.result.onnx is None


def test_without_a_lockdown_only_onnx_is_taken(examined: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "can_confine", lambda: False)
    found = examined(hostile.pickled(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    assert found.result.verdict == "refused"
    assert found.result.reason == "The sandbox cannot be locked down on this machine, so only ONNX files are taken."
    assert examined(hostile.tree_model()).result.verdict == "servable"


def test_without_a_lockdown_data_is_read_by_nobody_and_without_the_network(open_folder: Path) -> None:
    slow = open_folder / "slow"
    os.mkfifo(slow)
    held = os.open(slow, os.O_RDWR)
    wanted = {"Uid": [str(NOBODY if os.getuid() == 0 else os.getuid())] * 4, "NoNewPrivs": ["1"], "Seccomp": ["2"]}
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(sandbox.run, "look", files={"original": slow}, limits=SandboxLimits(timeout_s=20), arguments={"confined": False})
        while wanted not in (found := list(_rights_of_children())) and not outcome.done():
            time.sleep(0.02)
        os.write(held, hostile.tree_model())
        os.close(held)
    assert wanted in found
    assert outcome.result().answer == wire.Looked("onnx", "ONNX")


def _rights_of_children() -> Iterator[dict[str, list[str]]]:
    for child in children_of_template():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            lines = {name: value.split() for name, value in (line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())}
            yield {name: lines[name] for name in ("Uid", "NoNewPrivs", "Seccomp")}


def test_a_child_that_cannot_lock_itself_down_opens_nothing(own_template: Callable[[str], Path]) -> None:
    own_template("""
        def refuse(*paths):
            raise OSError("no Landlock")
        child.confine.close_files = refuse
        def do(job, files, arguments):
            return looked("read")
    """)
    reason = refused(sandbox.run("convert", files={"original": hostile.pickled(1)}, limits=SandboxLimits(), arguments={"kind": "pickle"}))
    assert reason == "The sandbox could not be locked down on this machine (no Landlock)."
