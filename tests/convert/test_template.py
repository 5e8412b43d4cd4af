"""The template that the sandbox's processes are forked from: one for many jobs, replaced when it ends, gone with its parent."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.convert import sandbox, template, wire
from registry.convert.limits import SandboxLimits
from tests.convert import hostile
from tests.convert.conftest import ROOT, children_of, children_of_template

StartFrom = Callable[[str], Path]


def look(source: Path | bytes = b"", *, limits: SandboxLimits | None = None) -> str:
    """Run a job; give what it told, or why it was refused."""
    answer = sandbox.run("look", files={"original": source}, limits=limits or SandboxLimits()).answer
    assert isinstance(answer, (wire.Looked, wire.Halted))
    return answer.text if isinstance(answer, wire.Looked) else answer.reason


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def targets(descriptors: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):  # one was closed just now
        return sorted(link.readlink().name.partition(":")[0] for link in descriptors.iterdir())
    return []


def is_there(process_id: int) -> bool:
    return Path(f"/proc/{process_id}").exists()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A file that has no end before it is written."""
    path = tmp_path / "slow"
    os.mkfifo(path)
    return path


def test_one_template_serves_many_jobs_each_in_a_process_of_its_own(own_template: StartFrom) -> None:
    own_template("")
    first, second = (look().split() for _ in range(2))
    assert first[1] == second[1]
    assert first[0] != second[0]


def test_the_real_template_has_one_thread_and_no_file_of_a_job_open() -> None:
    assert look(hostile.tree_model()) == "ONNX"
    assert template.keeper.present is not None
    process = Path(f"/proc/{template.keeper.present._process.pid}")
    assert "Threads:\t1\n" in (process / "status").read_text()
    if os.getuid() == 0:  # nobody else may look
        wait_until(lambda: targets(process / "fd") == ["anon_inode", "memfd", "null", "null", "pipe", "pipe", "socket"])


def test_processor_time_counts_from_the_fork(own_template: StartFrom) -> None:
    own_template("""
        import time
        def busy():
            while time.process_time() < 1.5:
                pass
        warm.up = busy
    """)
    assert look(limits=SandboxLimits(cpu_s=1)).split()[1].isdecimal()


def test_a_child_has_no_environment_no_descriptor_and_no_way_to_the_template(own_template: StartFrom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_template("""
        def target(name):
            try:
                return os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
            except FileNotFoundError:
                return "the listing itself"
        def is_refused(attempt):
            try:
                attempt()
            except PermissionError:
                return True
        def do(job, files, arguments):
            parent = f"/proc/{os.getppid()}"
            attempts = [lambda name=name: os.open(f"{parent}/{name}", os.O_RDONLY) for name in ("environ", "fd", "fdinfo", "maps", "mem", "root", "status")]
            attempts += [lambda: os.kill(os.getppid(), 9), lambda: os.killpg(os.getpgid(os.getppid()), 9)]
            return looked(repr([
                sorted(os.environ), sorted(map(target, os.listdir("/proc/self/fd"))), [is_refused(attempt) for attempt in attempts]
            ]))
    """)
    monkeypatch.setenv("SIGNALBOX_SECRET_KEY", "x")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        environment, descriptors, is_refused = ast.literal_eval(look())
    assert environment == sorted(template._ENVIRONMENT)
    assert descriptors == ["/dev/null", "/dev/null", "pipe", "pipe", "the listing itself"]  # the standard ones and the report
    assert is_refused == [True] * 9


def test_a_template_that_was_killed_is_replaced_without_a_word(own_template: StartFrom) -> None:
    own_template("")
    before = int(look().split()[1])
    os.kill(before, signal.SIGKILL)
    after = int(look().split()[1])
    assert after != before
    assert not is_there(before)


def test_a_template_that_dies_under_a_job_takes_it_along_and_costs_one_clear_answer(own_template: StartFrom, slow: Path) -> None:
    own_template("")
    held = os.open(slow, os.O_RDWR)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(look, slow, limits=SandboxLimits(timeout_s=20))
        wait_until(lambda: bool(children_of_template()))
        (child,) = children_of_template()
        assert template.keeper.present is not None
        template.keeper.present._process.kill()
        assert answer.result() == "The sandbox was ended while it read the file, which says nothing of the file."
    os.close(held)
    wait_until(lambda: not is_there(child))
    assert look().split()[1].isdecimal()


def test_a_template_that_lacks_a_library_says_so_and_is_tried_anew(own_template: StartFrom) -> None:
    own_template("""
        def lacking():
            raise ImportError("No module named 'ml_dtypes'")
        warm.up = lacking
    """)
    halted = sandbox.run("look", files={"original": b""}, limits=SandboxLimits()).answer
    assert isinstance(halted, wire.Halted)
    assert halted.reason == "The sandbox could not start on this machine (No module named 'ml_dtypes'), which says nothing of the file."
    assert halted.advice == "Ask the operator to run make setup; then check the version again: signalbox check-again."
    assert template.keeper.present is None
    own_template("")
    assert look().split()[1].isdecimal()


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("warm.up = lambda: 1 / 0", "ZeroDivisionError: division by zero"),
        ("warm.up = lambda: open('/dev/shm/signalbox', 'w')", "PermissionError: [Errno 13] Permission denied: '/dev/shm/signalbox'"),
        ("warm.up = os.abort", "it ended with code -6"),
        ("import time; template_process.START_S = 1; warm.up = lambda: time.sleep(60)", "it was not ready within 120 s"),
        ("template_process.TAKEN = b'nonsense'", "it ended with code 0"),
    ],
    ids=["fails", "writes", "crashes", "hangs", "talks nonsense"],
)
def test_a_template_that_does_not_become_warm_costs_one_clear_answer(own_template: StartFrom, code: str, complaint: str) -> None:
    own_template(code)
    assert look() == f"The sandbox could not start on this machine ({complaint}), which says nothing of the file."
    assert template.keeper.present is None


def test_a_template_that_hangs_is_replaced(own_template: StartFrom, monkeypatch: pytest.MonkeyPatch) -> None:
    own_template("")
    before = int(look().split()[1])
    os.kill(before, signal.SIGSTOP)
    monkeypatch.setattr(template, "_ANSWER_S", 0.5)
    after = int(look().split()[1])
    assert after != before
    assert not is_there(before)


def test_a_template_without_work_ends_and_leaves_nothing(own_template: StartFrom, monkeypatch: pytest.MonkeyPatch) -> None:
    own_template("")
    monkeypatch.setattr(template, "_IDLE_S", 0.3)
    before = int(look().split()[1])
    wait_until(lambda: not is_there(before))
    assert int(look().split()[1]) != before


def test_two_jobs_run_at_once_under_one_template(own_template: StartFrom, slow: Path) -> None:
    own_template("def do(job, files, arguments): return looked(files['original'].decode())")
    held = os.open(slow, os.O_RDWR)
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(look, slow)
        wait_until(lambda: bool(children_of_template()))
        assert look(b"quick") == "quick"
        assert not waiting.done()
        os.write(held, b"slow")
        os.close(held)
        assert waiting.result() == "slow"


def test_the_deadline_ends_the_whole_group(own_template: StartFrom) -> None:
    own_template("""
        import signal, time
        def do(*given):
            os.fork()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        child.do = do
    """)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(look, limits=SandboxLimits(timeout_s=1.0))
        wait_until(lambda: bool(children_of_template()))
        (child,) = children_of_template()
        wait_until(lambda: bool(children_of(child)))
        group = [child, *children_of(child)]
        assert answer.result() == "The file kept the sandbox busy beyond its time limit."
    assert len(group) == 2
    wait_until(lambda: not any(map(is_there, group)))


PARENT = """
import os, sys, threading
from pathlib import Path
sys.path.append(sys.argv[1])
from registry.convert import sandbox, template
from registry.convert.limits import SandboxLimits
template._SCRIPT = Path(sys.argv[2])
job = lambda source: sandbox.run("look", files={"original": source}, limits=SandboxLimits())
pid = lambda: template.keeper.present._process.pid
job(b"")
"""


def test_template_and_jobs_end_with_a_parent_that_is_killed(own_template: StartFrom, slow: Path) -> None:
    script = own_template("")
    held = os.open(slow, os.O_RDWR)
    code = PARENT + "threading.Thread(target=job, args=(Path(sys.argv[3]),)).start()\nprint(pid(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", code, str(ROOT), str(script), str(slow)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        wait_until(lambda: bool(children_of(number)))
        (child,) = children_of(number)
        parent.kill()
    wait_until(lambda: not is_there(number) and not is_there(child))
    os.close(held)


def test_a_fork_of_the_parent_has_a_template_of_its_own(own_template: StartFrom) -> None:
    script = own_template("")
    code = f"""{PARENT}
ours = pid()
if os.fork() == 0:
    job(b"")
    print(ours, pid(), flush=True)
    sys.stdin.read()
    os._exit(0)
job(b"")
assert pid() == ours
"""
    with subprocess.Popen([sys.executable, "-c", code, str(ROOT), str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        of_parent, of_fork = map(int, parent.stdout.readline().split())
        assert of_parent != of_fork
        assert parent.wait() == 0
        wait_until(lambda: not is_there(of_parent))  # though the fork lives
        assert is_there(of_fork)
    wait_until(lambda: not is_there(of_fork))


def test_an_order_may_be_longer_than_a_command_line(own_template: StartFrom) -> None:
    own_template("def do(job, files, arguments): return looked(str(len(arguments['signature'])))")
    answer = sandbox.run("answer", files={}, limits=SandboxLimits(), arguments={"signature": "x" * 300_000}).answer
    assert answer == wire.Looked("onnx", "300000")
