"""The dashboard as a process: its settings, its ports, its end."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.tools.stack_part import ROOT, Part
from tests.tools.waiting import SECONDS
from tests.unit.ui.conftest import Browser, new_dashboard
from ui.app import HEADERS


def _run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ui", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"API_UPSTREAM": "ftp://x"}, "API_UPSTREAM: `ftp://x` is not an http or https URL"),
        ({"API_UPSTREAM": "http://x/api"}, "API_UPSTREAM: `http://x/api` has a path"),
        ({"UI_SESSION_KEYS": "short"}, "UI_SESSION_KEYS: (hidden) holds a key that can be guessed"),
        ({"OIDC_ISSUER": "https://x"}, "OIDC_CLIENT_ID: is not set, and OIDC_ISSUER is"),
        (
            {"OIDC_ISSUER": "https://x", "OIDC_CLIENT_ID": "y"},
            "UI_PUBLIC_URL: is not set, and OIDC_ISSUER is",
        ),
        (
            {"OIDC_ISSUER": "http://x"},
            "OIDC_ISSUER: `http://x` is not https, and not on this machine",
        ),
        ({"UI_LOGIN_TOKEN_FILE": "x"}, "API_KEY: is not set, and UI_LOGIN_TOKEN_FILE is"),
    ],
)
def test_a_wrong_setting_stops_the_start(environ: dict[str, str], said: str) -> None:
    done = _run(**environ)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said}; ")


def test_print_config_hides_secrets() -> None:
    done = _run("--print-config", API_KEY="s3cret", PORT="9000")
    assert done.stdout.splitlines() == ["PORT=9000", "API_KEY=(hidden)"]


def test_every_answer_is_protected(browser: Browser) -> None:
    """Pages, refusals, files and what the api answered alike."""
    for path in ("/login", "/nowhere", "/static/style.css", "/config.js", "/api/auth/me"):
        answer = browser.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
        assert "Strict-Transport-Security" not in answer.headers
        assert "Server" not in answer.headers
    assert browser.get("/login").headers["Cache-Control"] == "no-store"


def test_config_script(browser: Browser) -> None:
    answer = browser.get("/config.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert '"defaultNamespace": "mcp-servers"' in answer.text


def test_metrics_have_a_port_of_their_own(dashboard: Part) -> None:
    metrics = dashboard.environ["METRICS_PORT"]
    assert requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=SECONDS).ok
    assert requests.get(f"{dashboard.address}/metrics", timeout=SECONDS).status_code == 404


def test_behind_https(api: Part, tmp_path: Path) -> None:
    """Cookies go over https alone, and browsers are told to come by it alone."""
    part = new_dashboard(api.address, tmp_path, UI_PUBLIC_URL="https://sentinel.example.org")
    part.start()
    try:
        answer = Browser(part.address).get("/login")
        assert "; Secure" in answer.headers["Set-Cookie"]
        assert "max-age" in answer.headers["Strict-Transport-Security"]
        assert part.process is not None
        part.process.send_signal(signal.SIGTERM)
        assert part.process.wait(SECONDS) == 0
    finally:
        part.kill()
