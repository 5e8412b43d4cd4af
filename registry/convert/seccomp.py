"""A seccomp filter through ctypes: the few system calls that arithmetic needs; all others fail or end the process.

Three answers: *allow*; *EPERM* for what a library may try and do without; *kill the process* for
what only an attack does (a socket, a new program, a fork, tracing, kernel keys).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from typing import NamedTuple

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
_NR, _ARCH, _ARG0, _ARG1, _ARG2 = 0, 4, 16, 24, 32  # offsets in struct seccomp_data; low words, little endian
_ARG2_HIGH = 36
_CLONE_THREAD = 0x00010000
_OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_PR_GET_NAME, _PR_SET_NAME, _PR_SET_VMA = 16, 15, 0x53564D41
_TIOCGWINSZ, _TCGETS, _FIONBIO = 0x5413, 0x5401, 0x5421
_FIRST_X32_CALL = 0x40000000
_FCNTL = (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)

_libc = ctypes.CDLL(None, use_errno=True)


class Architecture(NamedTuple):
    """The numbers of one architecture; ``allowed`` and ``deadly`` are names looked up in ``numbers``."""

    audit: int
    seccomp: int
    numbers: dict[str, int]


def _table(text: str) -> dict[str, int]:
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


X86_64 = Architecture(
    0xC000003E,
    317,
    _table("""
    read 0 write 1 close 3 fstat 5 poll 7 lseek 8 mmap 9 mprotect 10 munmap 11 brk 12 rt_sigaction 13 rt_sigprocmask 14 rt_sigreturn 15 ioctl 16
    pread64 17 readv 19 writev 20 select 23 sched_yield 24 mremap 25 mincore 27 madvise 28 dup 32 nanosleep 35 getpid 39 clone 56 exit 60 uname 63
    fcntl 72 getcwd 79 gettimeofday 96 getrlimit 97 getrusage 98 sysinfo 99 times 100 getuid 102 getgid 104 geteuid 107 getegid 108 getppid 110
    getgroups 115 getresuid 118 getresgid 120 sigaltstack 131 prctl 157 arch_prctl 158 gettid 186 time 201 futex 202 sched_getaffinity 204 getdents64 217
    set_tid_address 218 clock_gettime 228 clock_getres 229 clock_nanosleep 230 exit_group 231 tgkill 234 get_mempolicy 239 openat 257 newfstatat 262
    readlinkat 267 faccessat 269 pselect6 270 ppoll 271 set_robust_list 273 get_robust_list 274 prlimit64 302 getcpu 309 getrandom 318 membarrier 324
    statx 332 rseq 334 clone3 435 faccessat2 439 open 2 stat 4 lstat 6 access 21 readlink 89 restart_syscall 219
    socket 41 connect 42 accept 43 sendto 44 sendmsg 46 bind 49 listen 50 socketpair 53 fork 57 vfork 58 execve 59 ptrace 101 pivot_root 155 chroot 161
    mount 165 umount2 166 init_module 175 kexec_load 246 add_key 248 request_key 249 keyctl 250 unshare 272 perf_event_open 298 open_by_handle_at 304
    setns 308 process_vm_readv 310 process_vm_writev 311 finit_module 313 bpf 321 execveat 322 userfaultfd 323 pidfd_send_signal 424 io_uring_setup 425
    io_uring_enter 426 pidfd_open 434 pidfd_getfd 438 process_madvise 440
    """),
)
AARCH64 = Architecture(
    0xC00000B7,
    277,
    _table("""
    read 63 write 64 close 57 fstat 80 lseek 62 mmap 222 mprotect 226 munmap 215 brk 214 rt_sigaction 134 rt_sigprocmask 135 rt_sigreturn 139 ioctl 29
    pread64 67 readv 65 writev 66 sched_yield 124 mremap 216 mincore 232 madvise 233 dup 23 nanosleep 101 getpid 172 clone 220 exit 93 uname 160
    fcntl 25 getcwd 17 gettimeofday 169 getrlimit 163 getrusage 165 sysinfo 179 times 153 getuid 174 getgid 176 geteuid 175 getegid 177 getppid 173
    getgroups 158 getresuid 148 getresgid 150 sigaltstack 132 prctl 167 gettid 178 futex 98 sched_getaffinity 123 getdents64 61 set_tid_address 96
    clock_gettime 113 clock_getres 114 clock_nanosleep 115 exit_group 94 tgkill 131 get_mempolicy 236 openat 56 newfstatat 79 readlinkat 78 faccessat 48
    pselect6 72 ppoll 73 set_robust_list 99 get_robust_list 100 prlimit64 261 getcpu 168 getrandom 278 membarrier 283 statx 291 rseq 293 clone3 435
    faccessat2 439 restart_syscall 128
    socket 198 connect 203 accept 202 sendto 206 sendmsg 211 bind 200 listen 201 socketpair 199 execve 221 ptrace 117 pivot_root 41 chroot 51 mount 40
    umount2 39 init_module 105 kexec_load 104 add_key 217 request_key 218 keyctl 219 unshare 97 perf_event_open 241 open_by_handle_at 265 setns 268
    process_vm_readv 270 process_vm_writev 271 finit_module 273 bpf 280 execveat 281 userfaultfd 282 pidfd_send_signal 424 io_uring_setup 425
    io_uring_enter 426 pidfd_open 434 pidfd_getfd 438 process_madvise 440
    """),
)
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64}
_DEADLY = frozenset(
    [
        "socket",
        "connect",
        "accept",
        "sendto",
        "sendmsg",
        "bind",
        "listen",
        "socketpair",
        "fork",
        "vfork",
        "execve",
        "ptrace",
        "pivot_root",
        "chroot",
        "mount",
        "umount2",
        "init_module",
        "kexec_load",
        "add_key",
        "request_key",
        "keyctl",
        "unshare",
        "perf_event_open",
        "open_by_handle_at",
        "setns",
        "process_vm_readv",
        "process_vm_writev",
        "finit_module",
        "bpf",
        "execveat",
        "userfaultfd",
        "pidfd_send_signal",
        "io_uring_setup",
        "io_uring_enter",
        "pidfd_open",
        "pidfd_getfd",
        "process_madvise",
    ]
)
_CONDITIONAL = frozenset({"clone", "clone3", "openat", "open", "ioctl", "prctl", "tgkill", "prlimit64", "fcntl"})

_Instruction = tuple[int, int, int, int]


def architecture() -> Architecture | None:
    """Give this machine's numbers, or None for a machine that we do not know."""
    return ARCHITECTURES.get(platform.machine())


def install() -> None:
    """Filter the system calls of every thread of this process, for good. Raises OSError when the kernel refuses.

    ``no_new_privs`` must be set before.
    """
    here = architecture()
    if here is None:
        raise OSError(f"no system call table for {platform.machine()}")
    code = program(here, os.getpid())
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(instructions))
    result = _libc.syscall(here.seccomp, ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_FLAG_TSYNC), ctypes.create_string_buffer(header))
    if result != 0:
        raise OSError(ctypes.get_errno(), "seccomp: the filter was refused")


def program(machine: Architecture, process_id: int) -> list[_Instruction]:
    """Give the filter as (code, jump if true, jump if false, constant)."""
    code: list[_Instruction] = [
        (_LD_ABS, 0, 0, _ARCH),
        (_JEQ, 1, 0, machine.audit),
        (_RET, 0, 0, _KILL),
        (_LD_ABS, 0, 0, _NR),
        (_JGE, 0, 1, _FIRST_X32_CALL),
        (_RET, 0, 0, _KILL),
    ]
    for name, number in machine.numbers.items():
        body = _conditions(process_id)[name] if name in _CONDITIONAL else [_ret(_KILL if name in _DEADLY else _ALLOW)]
        code += [(_JEQ, 0, len(body), number), *body]
    return [*code, _ret(_ERRNO | _EPERM)]


def _conditions(process_id: int) -> dict[str, list[_Instruction]]:
    """The calls that depend on their arguments; each list ends in a return on every way."""
    return {
        "clone": _bits_in(_ARG0, _CLONE_THREAD, if_set=_ALLOW, if_clear=_KILL),
        "clone3": [_ret(_ERRNO | _ENOSYS)],  # its flags lie in memory, out of a filter's sight; glibc falls back to clone
        "openat": _bits_in(_ARG2, _OPEN_TO_WRITE, if_set=_ERRNO | _EPERM, if_clear=_ALLOW),
        "open": _bits_in(_ARG1, _OPEN_TO_WRITE, if_set=_ERRNO | _EPERM, if_clear=_ALLOW),
        "ioctl": _one_of(_ARG1, (_TIOCGWINSZ, _TCGETS, _FIONBIO)),
        "prctl": _one_of(_ARG0, (_PR_GET_NAME, _PR_SET_NAME, _PR_SET_VMA)),
        "tgkill": _one_of(_ARG0, (process_id,)),
        "fcntl": _one_of(_ARG1, _FCNTL),  # not F_SETOWN and F_SETSIG: by them the kernel would kill whom one names
        "prlimit64": [(_LD_ABS, 0, 0, _ARG2), (_JEQ, 0, 3, 0), (_LD_ABS, 0, 0, _ARG2_HIGH), (_JEQ, 0, 1, 0), _ret(_ALLOW), _ret(_ERRNO | _EPERM)],
    }


def _bits_in(argument: int, bits: int, *, if_set: int, if_clear: int) -> list[_Instruction]:
    return [(_LD_ABS, 0, 0, argument), (_JSET, 0, 1, bits), _ret(if_set), _ret(if_clear)]


def _one_of(argument: int, values: tuple[int, ...]) -> list[_Instruction]:
    count = len(values)
    tests = [(_JEQ, count - place, 0, value) for place, value in enumerate(values)]
    return [(_LD_ABS, 0, 0, argument), *tests, _ret(_ERRNO | _EPERM), _ret(_ALLOW)]


def _ret(answer: int) -> _Instruction:
    return (_RET, 0, 0, answer)
