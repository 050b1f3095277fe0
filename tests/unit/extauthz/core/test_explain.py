"""Explanations agree with decisions and name nobody else's grants."""

from typing import Any

import pytest
from test_evaluate import NOW, VIOLATIONS, decide, document, grant, rule, session

from extauthz.core.compile import compile_document
from extauthz.core.decide import failed
from extauthz.core.explain import Outcome, Step, explain
from extauthz.core.explain import told as as_json
from extauthz.core.reasons import Reason
from extauthz.core.table import BESIDE, TABLE


def told(doc: dict[str, Any], **asked: Any) -> list[Step]:
    return explain(compile_document(doc), decide(doc, **asked), NOW)


def test_table_and_reasons_are_one() -> None:
    """Every reason stands in exactly one row, or beside the table."""
    in_table = [reason for row in TABLE for reason in row.reasons]
    assert sorted([*in_table, *BESIDE]) == sorted(Reason)


@pytest.mark.parametrize(("number", "reason", "change"), VIOLATIONS)
def test_the_deciding_row_is_the_decisions(
    number: str, reason: str, change: dict[str, Any]
) -> None:
    """The rows before hold, one decides, the rest are skipped."""
    grants = change.get("grants", [change.get("every", {})])
    doc = document(
        *(grant(f"g{i}", **members) for i, members in enumerate(grants)),
        required=change.get("required", False),
    )
    steps = [
        s for s in told(doc, tool="destroy_high", **change.get("asked", {})) if s.row[0] != "g"
    ]
    deciding = [step.row for step in steps].index(number)
    assert reason in steps[deciding].detail
    expected = [Outcome.HOLDS] * deciding + [Outcome.DECIDES]
    assert [step.outcome for step in steps] == expected + [Outcome.SKIPPED] * (
        len(steps) - deciding - 1
    )


def test_each_matching_grant_is_told() -> None:
    """Also those that did not decide: what they say is where a change would begin."""
    doc = document(grant("far", tool_rules=[rule("other")]), grant("near", max_trust="low"))
    decision = decide(doc, tool="destroy_high")
    rows = as_json(decision, explain(compile_document(doc), decision, NOW))["explanation"]
    said = {row["row"]: (row["outcome"], row["detail"]) for row in rows[-2:]}
    assert said == {
        "grant ns/far": ("says", "does not cover the tool"),
        "grant ns/near": ("decides", "trust_too_low: low of high"),
    }


def test_only_matching_grants_are_named() -> None:
    """Another subject's grant or session never shows, whatever happens."""
    doc = document(
        grant("mine", tool_rules=[rule("write_medium")]),
        grant("theirs", agent_id="b"),
        sessions=(session("their-session", agent_id="b"),),
    )
    for tool in ("read_low", "write_medium", "nothing"):
        for named in ("", "their-session"):
            text = repr(told(doc, tool=tool, named=named))
            assert "theirs" not in text
            assert "ns/their-session" not in text
            assert "ns/mine" in text


def test_each_grant_says_its_own() -> None:
    """Every matching grant is told with its own outcome."""
    doc = document(
        grant("a", allowed_side_effects=["read"]),
        grant("b", max_trust="low"),
        grant("c", disabled=True),
        grant("d", tool_rules=[rule("read_low")]),
        grant("e"),
    )
    says = {s.row: s.detail for s in told(doc, tool="destroy_high") if s.row.startswith("grant")}
    assert says == {
        "grant ns/a": "side_effect_not_allowed",
        "grant ns/b": "trust_too_low: low of high",
        "grant ns/c": "disabled",
        "grant ns/d": "does not cover the tool",
        "grant ns/e": "allowed",
    }


def test_observed_denials_say_so() -> None:
    """In observe mode the row that would have denied is told."""
    steps = told(document(mode="observe"), agent="")
    assert [s.row for s in steps if s.outcome is Outcome.DECIDES] == ["4"]
    assert any("not enforced" in step.detail for step in steps)


def test_a_bug_stands_beside_the_table() -> None:
    """A failure of the gate itself is no row of the table."""
    (step,) = explain(None, failed(decide(document()).policy), NOW)
    assert "internal_error" in step.detail
