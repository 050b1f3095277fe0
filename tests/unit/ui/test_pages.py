"""What people see, and change, without a script: pages over a real api."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
import requests

from tests.tools.stack_part import Part
from tests.tools.waiting import SECONDS, eventually
from tests.unit.ui.conftest import INGEST, Browser

HOSTILE = "<img src=x onerror=alert(1)>\u202e" + "x" * 200


@pytest.fixture
def admin(browser: Browser) -> Browser:
    browser.sign_in()
    return browser


def _form(page: str) -> dict[str, str]:
    """What the page's own form would send, as it stands."""
    inputs = re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    found = {name: html.unescape(value) for name, value in inputs}
    found["rules"] = "".join(re.findall(r"<textarea[^>]*>(.*?)</textarea>", page, re.DOTALL))
    found["trust"] = "".join(re.findall(r"<option selected>(\w+)", page))
    return found


def _grants(browser: Browser) -> dict[str, dict[str, object]]:
    headers = {"X-CSRFToken": browser.token("/operations")}
    listed = browser.get("/api/runtime/grants", headers=headers).json()["grants"]
    return {each["name"]: each for each in listed}


def _act(browser: Browser, name: str, action: str, **more: str) -> requests.Response:
    sent = {"csrf_token": browser.token("/operations"), **more}
    return browser.post(f"/governance/grants/team-a/{name}/{action}", data=sent)


def _made(browser: Browser, **said: str) -> requests.Response:
    form = {"namespace": "team-a", "server": "team-a/shop", "trust": "low", **said}
    form["csrf_token"] = browser.token("/operations")
    return browser.post("/governance/grants/new", data=form)


def test_a_grant_from_its_making_to_its_end(admin: Browser) -> None:
    """Made, shown, changed, put out of force and into it, and deleted when one is sure."""
    made = _made(admin, name="walk", agent="walker", rules="echo:allow\r\nrefund:deny")
    assert made.status_code == 303, made.text
    page = admin.get("/governance").text
    assert "grant team-a/walk is saved" in page
    assert "walker" in page
    edit = admin.get("/governance/grants/team-a/walk").text
    form = _form(edit)
    assert form["rules"] == "echo:allow\nrefund:deny"
    form |= {"rules": "echo:allow", "expires": "2099-01-02T03:04"}
    assert admin.post("/governance/grants/team-a/walk", data=form).status_code == 303
    now = _grants(admin)["walk"]
    assert (now["expiresAt"], len(str(now["toolRules"]))) == (
        "2099-01-02T03:04:00Z",
        len(str([{"name": "echo", "decision": "allow"}])),
    )
    stale = admin.post("/governance/grants/team-a/walk", data=form)
    assert stale.status_code == 400
    assert 'role="alert"' in stale.text  # somebody has changed it since that form was loaded
    assert _act(admin, "walk", "disable").status_code == 303
    assert _grants(admin)["walk"]["disabled"] is True
    assert _act(admin, "walk", "enable").status_code == 303
    assert _grants(admin)["walk"]["disabled"] is False
    assert "Delete grant team-a/walk?" in _act(admin, "walk", "delete").text
    assert "walk" in _grants(admin)
    assert _act(admin, "walk", "delete", sure="1").status_code == 303
    assert "walk" not in _grants(admin)


def test_what_is_wrong_is_said_beside_the_form(admin: Browser) -> None:
    """With what was typed still there, and the number of the line that cannot be read."""
    answer = _made(admin, name="odd", agent="a", rules="echo:allow\nrefund=deny")
    assert answer.status_code == 400
    assert "line 2" in answer.text
    assert "refund=deny" in answer.text
    assert "odd" not in _grants(admin)
    assert "subject" in _made(admin, name="odd").text


def test_nothing_is_replaced_unseen(admin: Browser) -> None:
    """A new grant of a name that is taken."""
    answer = _made(admin, name="live", agent="other")
    assert answer.status_code == 400
    assert _grants(admin)["live"]["subject"] == {"agentID": "ops"}


def test_a_preview_changes_nothing(admin: Browser) -> None:
    answer = _made(admin, name="seen", agent="a", preview="1")
    assert "would be decided differently" in answer.text
    assert "seen" not in _grants(admin)


def test_a_session(admin: Browser) -> None:
    form = {"namespace": "team-a", "server": "team-a/shop", "trust": "medium", "name": "talk"}
    form |= {"agent": "ops", "csrf_token": admin.token("/operations")}
    assert admin.post("/governance/sessions/new", data=form).status_code == 303
    sent = {"csrf_token": admin.token("/operations")}
    admin.post("/governance/sessions/team-a/talk/revoke", data=sent)
    assert "session team-a/talk is revoked" in admin.get("/governance").text


def test_hostile_names_are_text(admin: Browser, api: Part) -> None:
    """Of tools, agents and filters alike, wherever they show."""
    payload = {"server": "shop", "namespace": "team-a", "decision": "deny", "reason": "x"}
    payload |= {"tool_name": HOSTILE, "agent_id": HOSTILE, "request_id": HOSTILE}
    event = {"source": "s", "event_type": "mcp.request", "payload": payload}
    ingest = f"http://127.0.0.1:{api.environ['INGEST_PORT']}/events"
    told = {"x-api-key": INGEST}
    assert requests.post(ingest, json=event, headers=told, timeout=SECONDS).status_code == 202
    page = eventually(
        lambda: (text := admin.get("/").text) and "onerror" in text and text, "the event is shown"
    )
    [path] = set(re.findall(r'href="(/events/[0-9a-f-]+)"', str(page)))
    pages = [str(page), admin.get(path).text, admin.get("/", params={"agent_id": HOSTILE}).text]
    for text in pages:
        assert "&lt;img src=x" in text
        assert "<img" not in text


def test_filters_of_requests(admin: Browser) -> None:
    """What nothing matches is said; a wrong filter is, too."""
    assert "Nothing in the last 1h matches" in admin.get("/?agent_id=nobody-at-all").text
    assert admin.get("/?range=nonsense").status_code == 200


def test_the_search_box_searches(admin: Browser) -> None:
    assert "live" in admin.get("/governance?q=OPS").text
    assert "No grant matches" in admin.get("/governance?q=nobody-at-all").text


def test_operations(admin: Browser) -> None:
    """Each component, and a restart that is asked about first."""
    page = admin.get("/operations").text
    assert "Processor" in page
    sent = {"csrf_token": admin.token("/operations"), "component": "processor"}
    assert "Restart processor?" in admin.post("/operations/restart", data=sent).text
    done = admin.post("/operations/restart", data={**sent, "sure": "1"})
    assert done.status_code == 303
    assert "processor is restarted" in admin.get("/operations").text
    again = admin.post("/operations/restart", data={**sent, "sure": "1"})
    assert again.status_code == 303
    assert 'class="flash problem"' in admin.get("/operations").text  # a moment ago


def test_the_parts_that_live_alone(admin: Browser) -> None:
    """What scripts ask for again and again is no whole page."""
    for path in ("/events", "/operations"):
        text = admin.get(path, headers={"HX-Request": "true"}).text
        assert text.startswith("<section")
        assert "<html" not in text


def test_nobody_sees_a_page(browser: Browser) -> None:
    for path in (
        "/",
        "/events",
        "/events/x",
        "/governance",
        "/governance/grants/new",
        "/operations",
    ):
        assert browser.get(path).headers["Location"].startswith("/login?next=/"), path
    sent = {"csrf_token": browser.token(), "component": "api", "sure": "1"}
    assert browser.post("/operations/restart", data=sent).headers["Location"] == "/login?next=/"


def test_a_change_needs_the_token_of_a_page(admin: Browser) -> None:
    """Another site's form has none."""
    for path in ("/governance/grants/team-a/live/disable", "/operations/restart", "/auth/logout"):
        assert admin.post(path, data={"sure": "1"}).status_code == 400, path
    assert _grants(admin)["live"]["disabled"] is False


def test_the_series_is_data(admin: Browser) -> None:
    """Quoted in an attribute; no script stands in a page."""
    names: set[str] = set()
    series: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found = dict(attrs)
            names.update(found)
            assert tag != "style"
            assert tag != "script" or found.get("src")
            series.extend(filter(None, [found.get("data-series")]))

    for path in ("/?range=24h", "/governance", "/governance/grants/new", "/operations"):
        Reader().feed(admin.get(path).text)
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    assert all(isinstance(json.loads(each), list) for each in series)
