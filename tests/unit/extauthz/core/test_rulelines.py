"""Tool rules as lines of text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.errors import Invalid
from extauthz.core.model import DECISIONS, TRUST_LEVELS, ToolRule
from extauthz.core.rulelines import parse_rule, parse_rules, write_rule

RULES = st.builds(
    ToolRule,
    st.text("ab:- /", min_size=1).filter(lambda name: name == name.strip()),
    st.sampled_from(DECISIONS),
    st.sampled_from(["", *TRUST_LEVELS]),
)


@settings(derandomize=True)
@given(RULES)
def test_what_is_written_is_read_again(rule: ToolRule) -> None:
    """Whatever the tool's name, colons included."""
    assert parse_rule(write_rule(rule), "") == rule


def test_one_rule_a_line() -> None:
    """As the dashboard's form takes them; blank lines and spaces around do not matter."""
    assert parse_rules("list_invoices:allow\n\n  refund_invoice:allow:high \r\n", "toolRules") == (
        ToolRule("list_invoices", "allow", ""),
        ToolRule("refund_invoice", "allow", "high"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a:allow\nb:alow", "toolRules: line 2: unknown decision `alow`; did you mean `allow`?"),
        ("a:allow:hihg", "toolRules: line 1: unknown trust `hihg`; did you mean `high`?"),
        ("a", "toolRules: line 1: `a` has no decision; write it like refund:allow,"),
        (":allow", "toolRules: line 1: `:allow` names no tool;"),
        ("a:allow:", "toolRules: line 1: unknown trust ``;"),
        ("a :allow", "toolRules: line 1: `a :allow` names no tool;"),
        ("a:allow\nb:deny\na:deny", "toolRules: line 3: second rule for `a`, the first is in"),
    ],
)
def test_a_wrong_line_is_named(text: str, said: str) -> None:
    """With its number, what is wrong, and how it is written."""
    with pytest.raises(Invalid) as failed:
        parse_rules(text, "toolRules")
    assert str(failed.value).startswith(said)


@pytest.mark.parametrize("line", ["a:deny\nb:allow", "a:deny\r\nb:allow", "a:deny\u2028b:allow"])
def test_one_rule_has_one_line(line: str) -> None:
    """Else the first one would be taken for a part of the second one's tool."""
    with pytest.raises(Invalid, match=r"toolRules\[0\]: has several lines; write one rule in each"):
        parse_rule(line, "toolRules[0]")
