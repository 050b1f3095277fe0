"""One object in a YAML text is changed, and not a character beside it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backend.adapters.yaml_text import changed_text, cut_text, new_text
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.manifests import read_manifest
from extauthz.core.model import MCPAccessGrant, Subject, ToolRule
from extauthz.core.resources import parse_object
from extauthz.core.writing import to_object

KEY = Key("MCPAccessGrant", "n", "g")

HEAD = """\
# who may
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata:
    name: g   # wide
    namespace: 'n'
    labels: { mine: "1" }
"""
SPEC = """\
spec:
    serverRef: { name: shop }
    # trusted since May
    subject: {agentID: ops}   # the agent

    maxTrust:   "low" # not more
    toolRules:
    # reads
    - name: list
      decision: allow # all of them

    # pays back
    - { name: refund,   decision: deny }
    # the end of the rules
# the end
"""
PLAIN = HEAD + SPEC
JSON = """\
{
  "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAccessGrant",
  "metadata": {"name": "g", "namespace": "n"},
  "spec": {
    "serverRef": {"name": "shop"},
    "subject": {"agentID": "ops"},
    "maxTrust": "low",
    "toolRules": [
      {"name": "list", "decision": "allow"},
      {"name": "refund", "decision": "deny"}
    ]
  }
}"""
OTHER = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data: {a: b}
"""
LIST = """\
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: ConfigMap
  # ours
""" + "".join(
    f"  {'- ' if i == 0 else '  '}{line}\n"
    for i, line in enumerate((HEAD.partition("\n")[2] + SPEC).rstrip().splitlines())
)


def grant(text: str) -> MCPAccessGrant:
    manifest = read_manifest(text.encode(), "f")
    assert not manifest.faults, manifest.faults
    found = [p.resource for p in manifest.objects if isinstance(p.resource, MCPAccessGrant)]
    return next(each for each in found if each.name == "g")


def changed(text: str, **fields: Any) -> str:
    before = grant(text)
    after = replace(before, **fields)
    done = changed_text(text, KEY, to_object(before), to_object(after))
    assert grant(done) == after
    return done


def diff(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that are gone, and lines that are new."""
    old, new = before.splitlines(), after.splitlines()
    return [x for x in old if x not in new], [x for x in new if x not in old]


def test_a_value_is_replaced_alone() -> None:
    """Its comment, and the quotes and spaces of the rest, stay."""
    gone, new = diff(PLAIN, changed(PLAIN, max_trust="high"))
    assert gone == ['    maxTrust:   "low" # not more']
    assert new == ["    maxTrust:   high # not more"]


def test_a_new_member_stands_behind_the_others() -> None:
    """With their indentation; the comments that follow stay behind it, or before."""
    gone, new = diff(PLAIN, changed(PLAIN, disabled=True, expires_at="2099-01-01T00:00:00Z"))
    assert gone == []
    assert new == ["    disabled: true", '    expiresAt: "2099-01-01T00:00:00Z"']


def test_a_flag_goes_and_comes() -> None:
    """One that stands there becomes false, which says more than nothing."""
    disabled = changed(PLAIN, disabled=True)
    assert "    disabled: false\n" in changed(disabled, disabled=False)


def test_a_member_that_goes_takes_its_comment_along() -> None:
    """The lines right above it too; what stands around it stays."""
    done = changed(changed(PLAIN, expires_at="2099-01-01T00:00:00Z"), tool_rules=())
    assert "toolRules" not in done
    assert "# pays back" not in done
    assert "maxTrust:   " in done
    assert "# trusted since May" in done
    assert done.endswith("# the end\n")


def test_rules_come_and_go_with_their_comments() -> None:
    """The others' lines are not touched."""
    rules = grant(PLAIN).tool_rules
    without = changed(PLAIN, tool_rules=rules[1:])
    assert diff(PLAIN, without)[0] == [
        "    # reads",
        "    - name: list",
        "      decision: allow # all of them",
    ]
    assert diff(PLAIN, without)[1] == []
    more = changed(PLAIN, tool_rules=(*rules, ToolRule("new", "allow", "high")))
    added = ["    - {name: new, decision: allow, requiredTrust: high}"]
    assert diff(PLAIN, more) == ([], added)
    denied = changed(PLAIN, tool_rules=(replace(rules[0], decision="deny"), rules[1]))
    assert diff(PLAIN, denied) == (
        ["      decision: allow # all of them"],
        ["      decision: deny # all of them"],
    )


def test_rules_in_another_order_are_written_anew() -> None:
    """Their comments cannot be told apart then."""
    first, second = grant(PLAIN).tool_rules
    done = changed(PLAIN, tool_rules=(second, ToolRule("new", "allow", ""), first))
    assert "# trusted since May" in done
    twice = changed(PLAIN, allowed_side_effects=("read", "read"))
    assert grant(changed(twice, allowed_side_effects=("read", "write"))).tool_rules == (
        first,
        second,
    )


def test_a_subject_within_braces_changes_there() -> None:
    """A member in braces is replaced in its line."""
    gone, new = diff(PLAIN, changed(PLAIN, subject=Subject(human_id="a", team_id="t")))
    assert gone == ["    subject: {agentID: ops}   # the agent"]
    assert new == ["    subject: {humanID: a, teamID: t}   # the agent"]


def test_json_stays_json() -> None:
    """A `.yaml` of JSON is not mixed with YAML; no newline is added at its end."""
    rules = grant(JSON).tool_rules
    done = changed(
        JSON, max_trust="high", disabled=True, tool_rules=(*rules, ToolRule("n", "deny", ""))
    )
    assert diff(JSON, done) == (
        ['    "maxTrust": "low",', '      {"name": "refund", "decision": "deny"}', "    ]"],
        [
            '    "maxTrust": "high",',
            '      {"name": "refund", "decision": "deny"},',
            '      {"name": "n", "decision": "deny"}',
            "    ],",
            '    "disabled": true',
        ],
    )
    assert not done.endswith("\n")
    assert '"requiredTrust"' not in changed(done, tool_rules=rules[1:])


@pytest.mark.parametrize("text", [PLAIN, JSON, LIST, f"{OTHER}---\n{PLAIN}---\n{OTHER}"])
def test_line_ends_stay(text: str) -> None:
    """Windows ones are kept, for new lines too; a missing last one stays missing."""
    text = text.replace("\n", "\r\n").rstrip()
    done = changed(text, disabled=True, tool_rules=(ToolRule("a", "allow", "high"),))
    assert done.count("\n") == done.count("\r\n")
    assert not done.endswith("\n")


def test_an_item_of_a_list_is_changed_and_cut_out() -> None:
    """Of `kind: List`, as kubectl writes it; the last one takes the document along."""
    gone, new = diff(LIST, changed(LIST, max_trust="high"))
    assert (len(gone), new) == (1, ["        maxTrust:   high # not more"])
    cut = cut_text(LIST, KEY)
    assert cut == LIST[: LIST.index("  # ours")]
    ours = f"items:\n  - {{kind: {KEY.kind}, metadata: {{name: g, namespace: n}}}}\n"
    assert cut_text(f"apiVersion: v1\nkind: List\n{ours}", KEY) == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (PLAIN, ""),
        (f"# mine\n---\n{PLAIN}...\n---\n# nothing\n", ""),
        (f"{PLAIN}---\n{OTHER}", OTHER),
        (f"---\n{PLAIN}---\n{OTHER}", f"---\n{OTHER}"),
        (f"{OTHER}---\n{PLAIN}", OTHER),
        (f"{OTHER}--- # ours\n{PLAIN}---\n{OTHER}", f"{OTHER}---\n{OTHER}"),
        (f"{PLAIN}--- {{a: 1}}\n---\n{OTHER}", f"--- {{a: 1}}\n---\n{OTHER}"),
    ],
)
def test_a_document_is_cut_out_with_its_comments(text: str, left: str) -> None:
    """The others stay, to the character."""
    assert cut_text(text, KEY) == left


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (PLAIN.replace("{agentID: ops}", "&who {agentID: ops}"), "`who` .line 11."),
        ("x-a: &a low\n" + PLAIN.replace('"low"', "*a"), "`a`"),
    ],
)
def test_anchors_are_not_changed(text: str, named: str) -> None:
    """What is named elsewhere would change there too, or stand for nothing."""
    with pytest.raises(Invalid, match=named):
        changed_text(text, KEY, {}, {"spec": {"disabled": True}})
    with pytest.raises(Invalid, match=named):
        cut_text(text, KEY)


def test_documents_that_end_by_dots_are_not_cut() -> None:
    """They are rare, and the mend is easy."""
    with pytest.raises(Invalid, match="write `---`"):
        cut_text(f"{PLAIN}...\n---\n{OTHER}", KEY)


TEXTS = st.one_of(
    st.text(min_size=1, max_size=12).filter(lambda t: t == t.strip() and t.isprintable()),
    st.sampled_from(
        ["yes", "~", "0x1F", "0o7", "1e3", "a: b", "a #b", "*", "&a", "=", "<<", "-", "'", '"']
    ),
)
TRUST = st.sampled_from(["low", "medium", "high"])
RULES = st.lists(
    st.builds(ToolRule, TEXTS, st.sampled_from(["allow", "deny"]), st.one_of(st.just(""), TRUST)),
    max_size=4,
    unique_by=lambda rule: rule.name,
).map(tuple)
FIELDS = st.fixed_dictionaries(
    {
        "subject": st.builds(Subject, TEXTS, TEXTS | st.just(""), TEXTS | st.just("")),
        "max_trust": TRUST,
        "tool_rules": RULES,
        "allowed_side_effects": st.lists(
            st.sampled_from(["read", "write", "destructive"]), unique=True
        ).map(tuple),
        "policy_version": TEXTS | st.just(""),
        "disabled": st.booleans(),
        "expires_at": st.sampled_from(["", "2099-01-01T00:00:00Z", "2099-01-01t00:00:00+02:00"]),
    }
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.sampled_from([PLAIN, JSON, LIST, "", f"{OTHER}---\n{PLAIN}---\n{OTHER}"]),
    st.lists(FIELDS, min_size=1, max_size=3),
)
@example(PLAIN, [{"subject": Subject("a"), "tool_rules": (), "policy_version": ""}])
def test_any_edits_in_a_row_give_their_objects(text: str, edits: list[dict[str, Any]]) -> None:
    """Whatever is written, and however often: it is read again as it was meant."""
    text = text or new_text(to_object(grant(PLAIN)))
    others = text.count("ConfigMap")
    for fields in edits:
        text = changed(text, **fields)
    assert text.count("ConfigMap") == others
    assert parse_object(to_object(grant(text))) == grant(text)
