"""The corpus of hostile and benign requests, read and decided with nothing before the gate."""

import json

import pytest

from extauthz.core.decide import Snapshot
from extauthz.core.reasons import Reason
from extauthz.core.request import Request
from tests.corpus.case import ALLOWED, FOLDER, PASSES, Case, corpus_policy, load
from tests.corpus.write.__main__ import FILES, render

HOSTILE, BENIGN = load("hostile-*"), load("benign-*")
SNAPSHOT = Snapshot.of(corpus_policy())
NOW = SNAPSHOT.confirmed_at


@pytest.mark.parametrize(
    "case", [case for case in HOSTILE + BENIGN if case.alone], ids=lambda case: case.id
)
def test_each_case_is_decided_as_it_says(case: Case) -> None:
    """The reason is the expected one; what passes is allowed."""
    decision = SNAPSHOT.decide(case.request(), NOW)
    told = PASSES if decision.allowed else decision.reason.value
    assert (told,) == case.expect, decision.detail
    assert not decision.allowed or decision.reason.value in ALLOWED


def test_the_corpus_is_large_and_names_each_case_once() -> None:
    """At least 300 hostile cases, and no id twice."""
    ids = [case.id for case in HOSTILE + BENIGN]
    assert len(HOSTILE) >= 300
    assert len(ids) == len(set(ids))


def test_what_passes_among_the_hostile_names_the_granted_tool_at_most() -> None:
    """A decoy or an unknown method passes; the gate never takes it for the denied tool."""
    passing = [case for case in HOSTILE if case.alone and case.expect == (PASSES,)]
    tools = {SNAPSHOT.decide(case.request(), NOW).call.tool for case in passing}
    assert tools == {"", "echo"}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_the_writer_writes(name: str) -> None:
    """`python -m tests.corpus.write` would change nothing."""
    written = (FOLDER / f"{name}.json").read_text()
    assert json.loads(written) == json.loads(render(FILES[name]))


def test_every_file_has_its_writer() -> None:
    """No file is left over."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(FILES)


@pytest.mark.parametrize("value", [b" admin", b"admin ", b"\tadmin", b" "])
@pytest.mark.parametrize("name", ["x-mcp-agent-id", "mcp-name", "content-type", "authorization"])
def test_spaces_around_a_value_are_refused(name: str, value: bytes) -> None:
    """HTTP/2 hands them over, and servers trim them: another identity than was decided on."""
    request = Request("POST", "/mcp", ((name, value),), b"{}")
    assert SNAPSHOT.decide(request, NOW).reason is Reason.INVALID_HEADER
