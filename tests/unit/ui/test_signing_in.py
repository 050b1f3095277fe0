"""Who looks at the dashboard: by a key, by a link, as a program; and nobody else."""

from pathlib import Path

import pytest
import requests

from tests.tools.stack_part import Part
from tests.unit.ui.conftest import ADMIN, INGEST, SESSION_KEY, Browser, new_dashboard
from ui.sessions import Sealer


def test_a_key_signs_in_and_out(browser: Browser) -> None:
    """The page that was asked for comes after it; signed out, nothing is shown."""
    asked = browser.get("/?range=1h")
    assert (asked.status_code, asked.headers["Location"]) == (302, "/login?next=/?range%3D1h")
    answer = browser.sign_in(next="/?range=1h")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?range=1h")
    page = browser.get("/").text
    assert "Sign out" in page
    assert "Calls over time" in page
    assert browser.get("/auth/status").json()["principal"]["role"] == "admin"
    out = browser.post("/auth/logout", data={"csrf_token": browser.token("/")})
    assert (out.status_code, out.headers["Location"]) == (303, "/login")
    assert browser.get("/auth/status").json() == {"authenticated": False, "principal": None}
    assert browser.get("/").status_code == 302


def test_the_cookie_hides_the_key(browser: Browser) -> None:
    """Scripts cannot see it, other sites' pages cannot use it, and nobody can read it."""
    answer = browser.sign_in()
    said = answer.headers["Set-Cookie"]
    assert "HttpOnly" in said
    assert "SameSite=Strict" in said
    assert "Max-Age=28800" in said
    assert ADMIN not in str(answer.headers)
    [cookie] = [each for each in browser.http.cookies if each.name == "mcp_ui_session"]
    kept = Sealer([SESSION_KEY]).unseal(str(cookie.value), 60)
    assert kept["credential"] == ADMIN  # the test opens what it should open


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [
        ("wrong", 401, "the api does not take it"),
        ("", 400, "the key is empty"),
        ("schlüssel", 401, "no key of the api"),
        ("a\r\nx: y", 401, "no key of the api"),
        ("k" * 5000, 401, "the api does not take it"),
    ],
)
def test_a_wrong_key(browser: Browser, key: str, status: int, said: str) -> None:
    """It is told, and shown nowhere."""
    answer = browser.sign_in(key)
    assert answer.status_code == status
    assert said in answer.text
    assert not key or key not in answer.text
    assert not browser.get("/auth/status").json()["authenticated"]


def test_a_form_of_another_site_signs_nobody_in(browser: Browser) -> None:
    """Without the token of our own page."""
    answer = browser.post("/login", data={"api_key": ADMIN})
    assert answer.status_code == 400
    assert "load it again" in answer.text
    assert "mcp_ui_session" not in browser.http.cookies


@pytest.mark.parametrize(
    "where",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/a\tb",
        "http:/evil",
        "///evil.example",
        "/%0d%0aX:1\r\nX: 1",
        "\\\\evil.example",
        "//[x",
    ],
)
def test_nobody_is_sent_to_another_site(browser: Browser, where: str) -> None:
    assert browser.sign_in(next=where).headers["Location"] == "/"


def test_a_program_signs_in(browser: Browser) -> None:
    """As existing tools do, by JSON; a form cannot."""
    answer = browser.post("/auth/login", json={"api_key": ADMIN})
    assert answer.json()["authenticated"] is True
    assert browser.get("/auth/status").json()["authenticated"] is True
    for sent, status, code in (
        ({"api_key": "wrong"}, 401, "unauthorized"),
        ({"email": "a@example.org", "password": "x"}, 401, "login_unavailable"),
        ({"api_key": 7}, 400, "invalid_body"),
        ([], 400, "invalid_body"),
    ):
        refused = browser.post("/auth/login", json=sent)
        assert (refused.status_code, refused.json()["error"]) == (status, code)
    assert browser.post("/auth/login", data={"api_key": ADMIN}).status_code == 400


def test_a_session_that_nobody_sealed(browser: Browser, dashboard: Part) -> None:
    """Tampered with, of another installation, or of a key that is not used any more."""
    browser.sign_in()
    cookie = browser.http.cookies["mcp_ui_session"]
    foreign = Sealer(["another-key-of-some-other-dashboard"]).seal({"credential": ADMIN})
    for value in (cookie[:-4] + "AAAA", foreign, "", "garbage", cookie + "x"):
        told = requests.get(
            dashboard.address + "/auth/status", cookies={"mcp_ui_session": value}, timeout=60
        )
        assert told.json()["authenticated"] is False


def test_a_session_ends(api: Part, tmp_path: Path) -> None:
    """After its hours the cookie is worth nothing, even to who kept it."""
    sealer = Sealer([SESSION_KEY, "an-older-key-that-is-still-taken"])
    old = Sealer(["an-older-key-that-is-still-taken"]).seal({"credential": ADMIN})
    assert sealer.unseal(old, 60) == {"credential": ADMIN}
    assert sealer.unseal(old, -1) is None


def test_a_link_signs_in_once(api: Part, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token\n")
    part = new_dashboard(api.address, tmp_path, UI_LOGIN_TOKEN_FILE=str(file), API_KEY=ADMIN)
    part.start()
    try:
        first, second = Browser(part.address), Browser(part.address)
        assert first.get("/auth/link?token=guess").status_code == 401
        followed = first.get("/auth/link?token=a-token")
        assert followed.status_code == 200
        assert 'content="0; url=/"' in followed.text
        assert first.get("/auth/status").json()["authenticated"] is True
        again = second.get("/auth/link?token=a-token")
        assert again.status_code == 401
        assert "sentinel ui" in again.text
        assert not file.exists()
    finally:
        part.kill()


def test_where_no_links_are_made(browser: Browser) -> None:
    assert browser.get("/auth/link?token=x").status_code == 404


def test_a_key_that_may_only_send_events(browser: Browser) -> None:
    """The api says what it may do: nothing here."""
    browser.sign_in(INGEST)
    page = browser.get("/")
    assert page.status_code == 403
    assert "scope `read`" in page.text
    assert "Sign out" in page.text
