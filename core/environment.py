"""Every setting of Signalbox as one typed object, read from the environment; works with none set.

No Django here: the data plane and the command line read it too. ``docs/reference/settings.md``
documents each field, and a test holds the two together.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
import tempfile
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import Invalid

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ROOT = Path(__file__).resolve().parent.parent
SET_BY_UP = "SIGNALBOX_SET_BY_UP"
"""Names to the processes that ``signalbox up`` starts the settings that it set for them itself, since nobody else had."""
# A Unix socket's path may be 107 bytes long, and Postgres appends ".s.PGSQL.5432".
_LONGEST_SOCKET_DIR = 80


class Environment(BaseSettings):
    """The settings; ``SIGNALBOX_`` before the upper-case name, but for the two well-known URLs."""

    model_config = SettingsConfigDict(env_prefix="SIGNALBOX_", frozen=True, extra="ignore", ignored_types=(cached_property,))

    var_dir: Path = Field(default=ROOT / "var", description="Where everything that must be kept lies.")
    external_database_url: str = Field(default="", validation_alias="DATABASE_URL", description="A PostgreSQL of your own instead of the embedded one.")
    external_redis_url: str = Field(default="", validation_alias="REDIS_URL", description="A Redis of your own instead of the embedded one.")
    secret_key: str = Field(default="", description="Signs sessions; made and kept in var/secret_key when empty.")
    debug: bool = Field(default=False, description="Shows tracebacks and the component gallery. Never in production.")
    host: str = Field(default="127.0.0.1", description="The address that the console and the data plane bind to.")
    console_port: int = Field(default=8700, ge=0, le=65535, description="Port of the console and the REST API.")
    predict_port: int = Field(default=8701, ge=0, le=65535, description="Port of the data plane.")
    grpc_port: int = Field(default=8702, ge=0, le=65535, description="Port of the predictions over gRPC; 0 leaves them out.")
    grpc_processes: int = Field(default=1, ge=1, le=64, description="Processes that answer predictions over gRPC.")
    grpc_message_bytes: int = Field(default=64 * 2**20, ge=2**16, le=2**30, description="The largest gRPC message that is read, unpacked.")
    public_console_url: str = Field(default="", description="The console's address as people see it, behind a proxy.")
    public_predict_url: str = Field(default="", description="The data plane's address as clients see it, behind a proxy.")
    allowed_hosts: str = Field(
        default="127.0.0.1,localhost,[::1]", description="Comma-separated host names that the console answers to, besides its own address."
    )
    https: bool = Field(default=False, description="The console is reached over HTTPS: secure cookies and HSTS.")
    dataplane_processes: int = Field(default=2, ge=1, le=256, description="Data-plane processes, one per core.")
    build_memory_bytes: int = Field(default=0, ge=0, description="Memory for loaded builds, all data-plane processes together; 0: half of the machine's.")
    answer_memory_bytes: int = Field(
        default=0, ge=0, description="Memory for kept answers, all data-plane processes together; 0: a sixteenth of the machine's."
    )
    shared_memory: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether callers may send tensors in this machine's shared memory; auto: if nobody else can call."
    )
    worker_processes: int = Field(default=2, ge=1, le=256, description="Celery worker processes.")
    demo: bool = Field(default=True, description="Runs the demo's models, traffic and outcomes.")
    upload_limit_bytes: int = Field(default=2**31, ge=1024, description="The largest model file that is taken.")
    sandbox_memory_bytes: int = Field(default=4 * 2**30, description="Address space of one sandbox process.")
    sandbox_cpu_s: int = Field(default=300, description="Processor seconds of one sandbox process.")
    access_log: Literal["off", "file", "stdout"] = Field(default="off", description="Where one JSON line per request goes: var/log/access.jsonl, or stdout.")
    metrics_open: bool = Field(default=False, description="Lets everybody read /metrics without a key, not callers of this machine alone.")
    log_retention_days: int = Field(default=30, ge=1, description="Days after which logged predictions are deleted.")

    @cached_property
    def run_dir(self) -> Path:
        """Sockets and locks. Under ``var_dir`` unless that path is too long for a Unix socket."""
        inside = self.var_dir.resolve() / "run"
        if len(str(inside)) <= _LONGEST_SOCKET_DIR:
            return inside
        name = hashlib.sha256(str(inside).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"signalbox-{os.getuid()}-{name}"

    @property
    def observing_file(self) -> Path:
        """What was set of the log and of traces while Signalbox runs."""
        return self.run_dir / "observing.json"

    @property
    def regions_file(self) -> Path:
        """The regions of shared memory that callers have registered."""
        return self.run_dir / "regions.json"

    @property
    def offers_shared_memory(self) -> bool:
        """Tell whether callers may name shared memory: as it is set, else where predictions are answered to this machine alone."""
        if self.shared_memory == "auto":
            return is_loopback(self.host.strip("[]")) and not self.has_proxy
        return self.shared_memory == "on"

    @property
    def has_proxy(self) -> bool:
        """Tell whether a proxy stands before Signalbox: everybody then comes from this machine's address."""
        return bool(self.https or self.public_console_url or self.public_predict_url)

    @property
    def artifacts_dir(self) -> Path:
        return self.var_dir / "artifacts"

    @cached_property
    def uploads_dir(self) -> Path:
        """Where uploads lie until they are stored: on the same disk, so that storing is a rename."""
        path = self.var_dir / "uploads"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def demo_stopped(self) -> Path:
        """While this file is there, the demo rests: ``signalbox demo stop`` makes it, ``signalbox demo start`` removes it."""
        return self.var_dir / "demo.stopped"

    @property
    def demo_began(self) -> Path:
        """When the demo's traffic began; there from then on until ``signalbox demo remove``."""
        return self.var_dir / "demo.json"

    @property
    def wants_demo(self) -> bool:
        """Tell whether ``signalbox up`` runs the demo, or is about to."""
        return self.demo and not self.demo_stopped.exists()

    @property
    def demo_is_coming(self) -> bool:
        """Tell whether the demo is wanted and not there yet: its versions are trained and registered first."""
        return self.wants_demo and not self.demo_began.exists()

    @property
    def database_url(self) -> str:
        return self.external_database_url or f"postgresql://signalbox@/signalbox?host={self.run_dir}"

    @property
    def redis_url(self) -> str:
        return self.external_redis_url or f"unix://{self.run_dir}/redis.sock"

    @property
    def console_url(self) -> str:
        return self.public_console_url or self.local_console_url

    @property
    def predict_url(self) -> str:
        return self.public_predict_url or self.local_predict_url

    @property
    def local_console_url(self) -> str:
        return f"http://{address(self.local_host, self.console_port)}"

    @property
    def local_predict_url(self) -> str:
        return f"http://{address(self.local_host, self.predict_port)}"

    @property
    def grpc_address(self) -> str:
        """Where gRPC clients find the predictions: host and port, no scheme."""
        return address(self.local_host, self.grpc_port)

    @property
    def local_host(self) -> str:
        """What this machine calls its own processes by: they may listen on every address, but nobody can call them there."""
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  # compared, not bound

    @property
    def console_hosts(self) -> list[str]:
        """The names that the console answers to: those of the setting, and its own address."""
        names = [name.strip() for name in self.allowed_hosts.split(",") if name.strip()]
        return list(dict.fromkeys([*names, bracketed(self.local_host)]))

    @cached_property
    def session_secret(self) -> str:
        """The secret key; made once and kept readable by the owner alone."""
        return self.secret_key or _kept_secret(self.var_dir / "secret_key")


def address(host: str, port: int) -> str:
    """Give ``host:port`` as URLs and gRPC have it."""
    return f"{bracketed(host)}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether an address, or ``localhost``, is reached by this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """Give the host as it stands before a port: an IPv6 address has colons of its own."""
    return f"[{host}]" if ":" in host else host


def _kept_secret(path: Path) -> str:
    """Read the secret at ``path``, or make it; of two processes that make it at once, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Give the process's settings, read once; raises Invalid that names the variables which are wrong."""
    try:
        return Environment()
    except ValidationError as error:
        raise Invalid(" ".join(_wrong(problem) for problem in error.errors())) from None


def _wrong(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0])
    variable = name if name.isupper() else f"SIGNALBOX_{name.upper()}"
    return f"The setting {variable} is {str(problem['input'])!r}: {problem['msg'][:1].lower()}{problem['msg'][1:]}."
