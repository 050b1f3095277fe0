"""A dashboard in front of a real api, as processes, and a browser without a window."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.tools.ports import free_ports
from tests.tools.stack_part import Part
from tests.tools.waiting import SECONDS

ADMIN, INGEST = "the-admin-key", "the-ingest-key"
SESSION_KEY = "k" * 32
ACCESS = """
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: shop, namespace: team-a}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: live, namespace: team-a}
spec: {serverRef: {name: shop}, subject: {agentID: ops}}
"""


@dataclass
class Browser:
    """Keeps cookies and follows no redirect by itself."""

    url: str
    http: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **more: object) -> requests.Response:
        return self._send("GET", path, **more)

    def post(self, path: str, **more: object) -> requests.Response:
        return self._send("POST", path, **more)

    def _send(self, method: str, path: str, **more: object) -> requests.Response:
        told = {"timeout": SECONDS, "allow_redirects": False} | more
        return self.http.request(method, self.url + path, **told)  # type: ignore[arg-type]

    def token(self, path: str = "/login") -> str:
        """The CSRF token of a page's form."""
        [found] = set(re.findall(r'name="csrf_token" value="([^"]+)"', self.get(path).text))
        return str(found)

    def sign_in(self, key: str = ADMIN, **more: str) -> requests.Response:
        """By the form."""
        sent = {"csrf_token": self.token(), "api_key": key, **more}
        return self.post("/login", data=sent)


def new_backend(folder: Path, **environ: str) -> Part:
    """A backend with one grant, not started yet."""
    (folder / "access").mkdir()
    (folder / "access/access.yaml").write_text(ACCESS)
    port, ingest, metrics = free_ports(3)
    told = {
        "EVENT_LOG_URL": f"sqlite://{folder}/log.db",
        "STORE_URL": f"chdb://{folder}/store",
        "ACCESS_URL": f"dir://{folder}/access",
        "ADMIN_API_KEYS": ADMIN,
        "INGEST_API_KEYS": INGEST,
        "API_PORT": str(port),
        "INGEST_PORT": str(ingest),
        "METRICS_PORT": str(metrics),
        **environ,
    }
    argv, ready = ("-m", "backend", "--target", "all"), f"http://127.0.0.1:{port}/ready"
    return Part("backend", argv, told, ready, folder, folder / "log")


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    part = new_backend(tmp_path_factory.mktemp("api"))
    part.start()
    yield part
    part.kill()


def new_dashboard(api: str, folder: Path, **environ: str) -> Part:
    """A dashboard that is not started yet."""
    port, metrics = free_ports(2)
    told = {
        "API_UPSTREAM": api,
        "PORT": str(port),
        "METRICS_PORT": str(metrics),
        "UI_SESSION_KEYS": SESSION_KEY,
        **environ,
    }
    ready = f"http://127.0.0.1:{port}/ready"
    return Part("ui", ("-m", "ui"), told, ready, folder, folder / "ui.log")


@pytest.fixture(scope="session")
def dashboard(api: Part, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    part = new_dashboard(api.address, tmp_path_factory.mktemp("ui"))
    part.start()
    yield part
    part.kill()


@pytest.fixture
def browser(dashboard: Part) -> Browser:
    """Nobody has signed in yet."""
    return Browser(dashboard.address)
