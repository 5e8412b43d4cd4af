"""The boundary itself: attacker's code that runs inside a locked process, past every list and scan."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from registry.convert import seccomp
from registry.convert.confine import probe
from registry.convert.limits import NOBODY

Attack = Callable[..., "CompletedProcess[str]"]

FORBIDDEN_CALLS = {
    "fork": "os.fork()",
    "vfork and exec": "os.posix_spawn('/bin/true', ['true'], {})",
    "exec": "os.execv('/bin/true', ['true'])",
    "internet socket": "socket.socket()",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "socket pair": "socket.socketpair()",
    "ptrace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "new namespace": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)",
    "io_uring": "libc.syscall(425, 8, 0)",
    "another process by descriptor": "libc.syscall(434, os.getppid(), 0)",
    "bpf": "libc.syscall(321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0)",
    "clone without a thread": "libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 17, 0, 0, 0, 0)",
}


@pytest.mark.parametrize("code", FORBIDDEN_CALLS.values(), ids=FORBIDDEN_CALLS)
def test_a_call_that_only_an_attack_makes_ends_the_process(attack: Attack, code: str) -> None:
    finished = attack(f"{code}\nprint('survived')")
    assert finished.returncode == -signal.SIGSYS
    assert finished.stdout == ""


def test_calls_of_the_other_x86_numbering_end_the_process(attack: Attack) -> None:
    if platform.machine() == "x86_64":
        assert attack("libc.syscall(0x40000000 + 39)").returncode == -signal.SIGSYS


FORBIDDEN_READS = [
    "/etc/passwd",
    "/etc/shadow",
    "/root",
    "/home",
    "/tmp",
    "/proc/1/environ",
    f"/proc/{os.getpid()}/environ",
    str(Path(__file__)),
]


def test_files_that_are_not_trusted_code_cannot_be_read(attack: Attack) -> None:
    code = f"""
for path in {FORBIDDEN_READS!r}:
    try:
        print('read', os.listdir(path) if os.path.isdir(path) else open(path).read())
    except (PermissionError, FileNotFoundError, NotADirectoryError):
        print('refused', path)
"""
    finished = attack(code)
    assert finished.stdout.splitlines() == [f"refused {path}" for path in FORBIDDEN_READS], finished.stderr


def test_nothing_can_be_written_made_renamed_or_removed(attack: Attack, open_folder: Path) -> None:
    there = open_folder / "there"
    there.write_text("kept")
    there.chmod(0o666)
    tries = [
        f"open({str(open_folder / 'new')!r}, 'w')",
        f"open({str(there)!r}, 'a')",
        f"os.truncate({str(there)!r}, 0)",
        f"os.unlink({str(there)!r})",
        f"os.rename({str(there)!r}, {str(open_folder / 'moved')!r})",
        f"os.mkdir({str(open_folder / 'dir')!r})",
        f"os.symlink('/etc', {str(open_folder / 'link')!r})",
        f"os.chmod({str(there)!r}, 0)",
        "os.memfd_create('x')",
        "open('/dev/shm/signalbox-attack', 'w')",
    ]
    code = "refused = 0\n" + "".join(f"try:\n    {one}\nexcept OSError:\n    refused += 1\n" for one in tries) + "print(refused)"
    assert attack(code).stdout == f"{len(tries)}\n"
    assert [path.name for path in open_folder.iterdir()] == ["there"]
    assert there.read_text() == "kept"
    assert not Path("/dev/shm/signalbox-attack").exists()


def test_no_other_process_can_be_signalled(attack: Attack) -> None:
    code = "try:\n    os.kill(os.getppid(), 9)\nexcept PermissionError:\n    print('refused')"
    assert attack(code).stdout == "refused\n"  # and this process lives to say so
    code = "import fcntl\ntry:\n    fcntl.fcntl(2, fcntl.F_SETOWN, os.getppid())\nexcept PermissionError:\n    print('refused')"
    assert attack(code).stdout == "refused\n"  # else what becomes readable there would have the kernel signal it


def test_memory_is_bounded(attack: Attack) -> None:
    code = "try:\n    b'x' * (3 * 2**30)\nexcept MemoryError:\n    print('bounded')"
    assert attack(code, memory_bytes=2**30).stdout == "bounded\n"


def test_processor_time_is_bounded(attack: Attack) -> None:
    assert attack("while True: pass", cpu_s=1).returncode in {-signal.SIGXCPU, -signal.SIGKILL}


def test_no_thread_can_be_started(attack: Attack) -> None:
    code = "try:\n    threading.Thread(target=print).start()\nexcept RuntimeError:\n    print('refused')"
    assert attack(code).stdout == "refused\n"


def test_limits_cannot_be_raised_and_no_right_comes_back(attack: Attack) -> None:
    code = """
for attempt in (lambda: os.setuid(0), lambda: os.setgroups([0]), lambda: resource.setrlimit(resource.RLIMIT_CPU, (99, 99)), os.setsid):
    try:
        attempt()
    except (OSError, ValueError):
        print('refused')
"""
    assert attack(code).stdout == "refused\n" * 4


def test_root_becomes_nobody_without_capabilities(attack: Attack) -> None:
    finished = attack("print(os.getresuid(), os.getresgid(), os.getgroups())")
    uid, gid = (NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
    assert finished.stdout == f"{(uid,) * 3} {(gid,) * 3} {[] if os.getuid() == 0 else os.getgroups()}\n"


def test_an_aborting_process_is_seen_as_one(attack: Attack) -> None:
    assert attack("os.abort()").returncode == -signal.SIGABRT


def test_the_probe_says_that_all_of_it_works_here() -> None:
    found = probe()
    assert found["confined"] is True
    assert found["landlock"] is True
    assert found["seccomp"] is True


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES.values(), ids=seccomp.ARCHITECTURES)
def test_every_jump_of_the_filter_lands_inside_and_every_way_ends_in_an_answer(machine: seccomp.Architecture) -> None:
    code = seccomp.program(machine, 4711)
    assert len(code) < 4096
    assert code[-1][0] == 0x06
    for place, (_, if_true, if_false, _) in enumerate(code):
        assert place + 1 + max(if_true, if_false) < len(code) or code[place][0] == 0x06


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES.values(), ids=seccomp.ARCHITECTURES)
def test_no_number_is_given_twice_in_a_table(machine: seccomp.Architecture) -> None:
    assert len(set(machine.numbers.values())) == len(machine.numbers)
