"""The state folder of `sentinel up`: what lies where, and who runs on it."""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from extauthz.core.errors import Conflict, Invalid

DEFAULT_STATE = ".sentinel"
# A run that was killed holds the lock until its processes are gone.
CLEANUP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Names inside one state folder. `root` is absolute."""

    root: Path

    @property
    def access(self) -> Path:
        """For the reference server."""
        return self.root / "access"

    @property
    def own_access(self) -> Path:
        """For a server of the user's own: it has other tools, so it needs other grants."""
        return self.root / "own-access"

    @property
    def admin_key(self) -> Path:
        return self.root / "admin.key"

    @property
    def ingest_key(self) -> Path:
        return self.root / "ingest.key"

    @property
    def digest_key(self) -> Path:
        """Of `arguments_digest` in events."""
        return self.root / "digest.key"

    @property
    def ui_session_key(self) -> Path:
        """Encrypts the dashboard's sessions."""
        return self.root / "ui-session.key"

    @property
    def login_token(self) -> Path:
        """Of the dashboard's one-time link; gone once it was used."""
        return self.root / "run/login.token"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def record(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def prepare(self) -> None:
        """Make what is missing, and sweep out what a killed run left behind."""
        self.record.unlink(missing_ok=True)
        shutil.rmtree(self.root / "run", ignore_errors=True)
        for name in ("run", "spool", "logs"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        for key in (self.admin_key, self.ingest_key, self.digest_key, self.ui_session_key):
            _make_key(key)
        for log in self.logs.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))  # the previous run's

    def new_login_path(self) -> str:
        """Path and query of a link that signs one browser in to the dashboard, once."""
        token = secrets.token_urlsafe(32)
        fresh = self.login_token.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        _write_private(fresh, token)
        fresh.replace(self.login_token)
        return f"/auth/link?token={token}"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a run; None where nothing serves it."""

    mcp: str
    ingest: str
    api: str
    ui: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One process of a run.

    Args:
        pid: 0 while it is down.
        restarts: how often it was started again.
    """

    name: str
    pid: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """What a run tells other commands about itself.

    Args:
        pid: of the supervisor.
        started_at: RFC 3339.
        server: namespace/name of the governed MCPServer.
        access_dir, admin_key_file: absolute paths.
        operations: the decision point's health and status address.
        upstream: the MCP server's own address.
    """

    pid: int
    started_at: str
    server: str
    endpoints: Endpoints
    access_dir: str
    admin_key_file: str
    operations: str
    upstream: str
    components: tuple[Component, ...] = ()

    def write(self, path: Path) -> None:
        """Replace the record at once: a reader sees the old or the new one."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        fresh.replace(path)


def read_running(folder: StateFolder) -> Running | None:
    """The run on this folder, or None where none runs (whatever its record says)."""
    if _is_free(folder.lock):
        return None
    try:
        members = orjson.loads(folder.record.read_bytes())
        members["endpoints"] = Endpoints(**members["endpoints"])
        members["components"] = tuple(Component(**each) for each in members["components"])
        return Running(**members)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is only starting, just gone, or of another version


def claim(root: Path) -> tuple[StateFolder, int]:
    """Take the state folder for this process.

    Returns:
        The folder and the descriptor that holds its lock until it is closed.

    Raises:
        Conflict: another `sentinel up` runs on it.
        Invalid: it cannot be made or written, or others can write it.
    """
    root = root.resolve()
    folder = StateFolder(root)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(root)
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        problem = f"`{root}` cannot be written ({error.strerror})"
        raise Invalid("--state", problem, "choose another folder") from error
    deadline = time.monotonic() + CLEANUP_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            if _is_alive(holder) or time.monotonic() > deadline:
                os.close(descriptor)
                raise Conflict(
                    f"`sentinel up` already runs on `{root}` (pid {holder}); "
                    "stop it, or choose another folder with --state"
                ) from None
            time.sleep(0.1)  # its guard is still ending what a killed run left
            continue
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return folder, descriptor


def _check_private(root: Path) -> None:
    """Who can write the folder can put keys of his own there, and a decision point."""
    found = root.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        mend = "choose a folder of your own, and run `chmod go-w` on it"
        raise Invalid("--state", f"`{root}` belongs to others, or they can write it", mend)


def _holder(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if not pid:
        return True  # it has the lock and has not written its pid yet
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_free(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _make_key(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        _write_private(path, secrets.token_urlsafe(32))


def _write_private(path: Path, text: str) -> None:
    """Raises: FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
