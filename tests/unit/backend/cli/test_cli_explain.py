"""`sentinel explain`: what it asks, and how an explanation looks."""

import re
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from backend.cli.explain import body_of, show
from backend.cli.main import sentinel

NOTHING = dict.fromkeys(("tool", "method", "human", "agent", "team", "session", "server", "at"), "")
REVISION = "sha256:abc"
PATCH = {"kind": "MCPAccessGrant", "metadata": {"name": "g"}, "spec": {"maxTrust": "high"}}


def told(**members: Any) -> dict[str, Any]:
    return {
        "time": "2026-11-22T12:00:00.000Z",
        "call": {
            "server": {"namespace": "ns", "name": "srv"},
            "method": "tools/call",
            "tool": "wipe\x1b[2J",
            "human_id": "bob",
            "agent_id": "a",
        },
        "decision": {
            "effect": "deny",
            "reason": "trust_too_low",
            "explanation": [
                {"row": "1", "condition": "readable", "outcome": "holds", "detail": ""},
                {"row": "10", "condition": "trusted", "outcome": "decides", "detail": "[red]low"},
            ],
        },
        "policy": {"match": "exact", "revision": REVISION},
    } | members


def lines(capsys: pytest.CaptureFixture[str], shown: dict[str, Any]) -> list[str]:
    show(shown)
    return [re.sub(r"\s+", " ", line).strip() for line in capsys.readouterr().out.splitlines()]


def test_the_rows_and_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """The decision first; strings of callers are shown literally."""
    assert lines(capsys, told()) == [
        "deny: trust_too_low",
        "tools/call wipe\\x1b[2J by a for bob on ns/srv at 2026-11-22T12:00:00.000Z",
        "policy sha256:abc: the policy that decided",
        "",
        "ROW CONDITION OUTCOME DETAIL",
        "1 readable holds",
        "10 trusted decides [red]low",
    ]


def test_the_smallest_change_is_yaml_to_apply(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands behind the heading is the patch itself; alternatives have a line each."""
    change = {"action": "patch", "summary": "raise it", "patch": PATCH}
    made = {"action": "create", "summary": "make one", "patch": PATCH}
    show(
        told(
            smallest_change={"opens_to_others": True, "changes": [change, made]},
            alternatives=[{"opens_to_others": False, "changes": [change, made]}],
        )
    )
    _, _, out = capsys.readouterr().out.partition("Smallest change that allows it")
    opens, _, rest = out.partition(":\n")
    written, _, others = rest.partition("or: ")
    assert opens == "; it may let others through, too"
    assert list(yaml.safe_load_all(written)) == [PATCH, PATCH]
    assert "# raise it (a merge patch)" in written
    assert "# make one (a new object)" in written
    assert others == "raise it; make one\n"


def test_what_is_not_certain_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that is not proven, what would be decided now, and what helps."""
    policy = {"match": "nearest", "revision": "", "rebuilt_revision": "r2", "note": "no history"}
    shown = told(
        policy=policy,
        disagrees={"effect": "allow", "reason": "allowed"},
        now={"effect": "allow", "reason": "allowed", "revision": "r3"},
        other_events=["e1", "e2"],
        advice="declare it",
    )
    shown["call"] |= {"tool": "", "method": "", "human_id": "", "agent_id": "", "team_id": "t"}
    shown["decision"]["would"] = {"effect": "deny", "reason": "tool_denied"}
    assert [line for line in lines(capsys, shown) if line][:8] == [
        "deny: trust_too_low (observed; would be deny: tool_denied)",
        "no message by nobody (team t) on ns/srv at 2026-11-22T12:00:00.000Z",
        "policy -: the nearest policy that is known",
        "rebuilt r2",
        "note: no history",
        "note: the rebuilt policy says allow: allowed",
        "now allow: allowed, policy r3",
        "further calls of this request: e1, e2",
    ]


def test_options_make_a_hypothetical_call() -> None:
    """Only what is given is sent."""
    asked = NOTHING | {"tool": "echo", "agent": "a", "server": "ns/srv", "at": "1h"}
    assert body_of("", asked) == {
        "tool": "echo",
        "agent_id": "a",
        "time": "1h",
        "server": {"name": "srv", "namespace": "ns"},
    }
    assert body_of("", NOTHING | {"method": "ping", "server": "srv"}) == {
        "method": "ping",
        "server": {"name": "srv"},
    }
    assert body_of("r1", NOTHING) is None


@pytest.mark.parametrize(
    ("request_id", "asked", "option"),
    [("", {"agent": "a"}, "--tool"), ("r", {"at": "1h"}, "--time")],
)
def test_a_request_or_a_call(request_id: str, asked: dict[str, str], option: str) -> None:
    """One of the two, and only one."""
    with pytest.raises(click.UsageError, match=option):
        body_of(request_id, NOTHING | asked)


def test_without_anything_to_explain() -> None:
    """Exit code 2, before any api is asked."""
    result = CliRunner().invoke(sentinel, ["explain", "--api", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "REQUEST_ID" in result.stderr
