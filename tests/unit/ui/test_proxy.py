"""`/api/*` behind the dashboard: whose credential goes on, and what comes back."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.tools.ports import free_ports
from tests.tools.waiting import SECONDS, eventually
from tests.unit.ui.conftest import ADMIN, Browser, new_dashboard

ME = "/api/auth/me"


def test_nobody_is_told_to_sign_in(browser: Browser) -> None:
    answer = browser.get(ME)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["error"] == "unauthorized"
    assert all(isinstance(value, str) for value in answer.json().values())


@pytest.mark.parametrize("header", ["x-api-key", "Authorization"])
def test_a_callers_own_key_goes_on(browser: Browser, header: str) -> None:
    """Unchanged, whether it is right or wrong, and whoever has signed in."""
    for signed_in in (False, True):
        if signed_in:
            browser.sign_in()
        for key, status in ((ADMIN, 200), ("wrong", 401)):
            value = key if header == "x-api-key" else f"Bearer {key}"
            assert browser.get(ME, headers={header: value}).status_code == status


def test_a_session_goes_on_with_its_token_alone(browser: Browser) -> None:
    """Of a page of ours; the cookie by itself is what another site's page could send."""
    browser.sign_in()
    token = browser.token("/")
    assert browser.get(ME).json()["error"] == "csrf_token_missing"
    assert browser.get(ME, headers={"X-CSRFToken": "guess"}).status_code == 401
    told = browser.get(ME, headers={"X-CSRFToken": token})
    assert told.json()["principal"]["role"] == "admin"
    stranger = Browser(browser.url)
    assert stranger.get(ME, headers={"X-CSRFToken": token}).status_code == 401


def test_a_change_goes_on(browser: Browser) -> None:
    """With its body; a refusal of the api's comes back as it is."""
    browser.sign_in()
    headers = {"X-CSRFToken": browser.token("/")}
    sent = {"name": "desk", "namespace": "team-a", "serverRef": {"name": "shop"}}
    refused = browser.post("/api/runtime/grants", json=sent, headers=headers)
    assert refused.status_code == 400
    assert "subject" in refused.text
    sent |= {"subject": {"agentID": "desk"}}
    made = browser.post("/api/runtime/grants", json=sent, headers=headers)
    assert made.status_code in {200, 201}, made.text
    again = browser.get("/api/runtime/grants/team-a/desk", headers=headers)
    assert again.json()["grant"]["name"] == "desk"


def test_an_export_streams(browser: Browser) -> None:
    browser.sign_in()
    headers = {"X-CSRFToken": browser.token("/"), "Accept": "application/x-ndjson"}
    eventually(lambda: browser.get("/api/events", headers=headers).content, "what is recorded")
    answer = browser.get("/api/events", headers=headers)
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    assert all(json.loads(line)["event_id"] for line in answer.text.splitlines())


def test_a_body_is_bounded(browser: Browser) -> None:
    """Before anybody is asked who they are."""
    head = "POST /api/runtime/grants HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n"
    assert _asked(browser, head).split(b" ", 2)[1] == b"413"


@pytest.mark.parametrize("path", ["/api/../login", "/api/./x", "/api/%2e%2e/metrics", "/api/a/.."])
def test_no_path_leaves_the_api(browser: Browser, path: str) -> None:
    """As it is typed: no client tidies it up on its way."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nx-api-key: {ADMIN}\r\nConnection: close\r\n\r\n"
    answer = _asked(browser, head)
    assert answer.split(b" ", 2)[1] in {b"404", b"308"}, answer


def test_an_api_that_is_away(tmp_path: Path) -> None:
    """Programs get a problem, people a page; the dashboard lives, and is not ready."""
    [nobody] = free_ports(1)
    part = new_dashboard(f"http://127.0.0.1:{nobody}", tmp_path)
    part.ready = part.ready.replace("/ready", "/live")
    part.start()
    try:
        browser = Browser(part.ready.removesuffix("/live"))
        answer = browser.get(ME, headers={"x-api-key": ADMIN})
        assert (answer.status_code, answer.json()["error"]) == (502, "api_unreachable")
        assert browser.get("/ready").status_code == 503
        refused = browser.sign_in()
        assert refused.status_code == 502
        assert "the api is away; try again" in refused.text
    finally:
        part.kill()


def _asked(browser: Browser, head: str) -> bytes:
    """What is answered to these very bytes, until the connection ends."""
    parts = urlsplit(browser.url)
    with socket.create_connection((parts.hostname, parts.port), SECONDS) as sent:
        sent.sendall(head.encode())
        return b"".join(iter(lambda: sent.recv(65536), b""))
