"""The API server and `core.resources` refuse the same objects, in the same words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extauthz.core import rules
from extauthz.core.admission import check_write
from extauthz.core.errors import Invalid
from extauthz.core.model import MCPServer
from extauthz.core.resources import parse_object
from extauthz.core.rules import Rule
from tests.cluster.cases import REFUSED, TAKEN, Case
from tests.tools.kube_cluster import KubeCluster
from tests.tools.kube_objects import Served
from tests.unit.extauthz.core.objects import grant, server, session

GOOD = {
    "as little as there may be": grant(serverRef={"name": "srv"}),
    "a server of no words": server(),
    "a rule that denies above what is reached": grant(
        toolRules=[{"name": "del", "decision": "deny", "requiredTrust": "high"}]
    ),
    "a trust that is just reached": grant(
        maxTrust="high", toolRules=[{"name": "del", "requiredTrust": "high"}]
    ),
    "null is unset": grant(expiresAt=None, maxTrust=None, toolRules=None),
    "an empty text is unset": session(expiresAt="", policyVersion=""),
    "times as RFC 3339 has them": grant(expiresAt="2026-12-31t23:59:59.123456789-23:59"),
    "a time with a space": grant(expiresAt="2026-12-31 23:59:59Z"),
    "a life of no length that nobody enforces": server(session={"maxLifetime": "0s"}),
    "blocks of both families": server(auth={"trustedPeers": ["0.0.0.0/0", "fe80::/10"]}),
    "a thousand tools": server(tools=[{"name": f"{'tool' * 30}-{i}"} for i in range(1000)]),
    "a hundred rules, which are compared": grant(
        toolRules=[{"name": f"{'tool' * 30}-{i}"} for i in range(100)]
    ),
    "what mcp-runtime may add": server(
        auth={"scopes": ["mcp"]}, gateway={"enabled": True}, tools=[{"name": "a", "timeout": 3}]
    ),
}


@pytest.mark.parametrize("title", GOOD)
def test_both_take(served: Served, title: str) -> None:
    """What one of them takes, so does the other."""
    _write(GOOD[title])
    assert served.causes(GOOD[title]) == []


@pytest.mark.parametrize("title", REFUSED)
def test_both_refuse(served: Served, title: str) -> None:
    """What one of them refuses, so does the other, each in exactly these words."""
    case = REFUSED[title]
    assert _refusal(case.value) == (case.field, case.sentence)
    assert served.causes(case.value) == list(case.causes)


@pytest.mark.parametrize("title", TAKEN)
def test_the_controller_tells(served: Served, title: str) -> None:
    """What mcp-runtime may write the API server takes; `core.resources` says what is wrong."""
    case = TAKEN[title]
    assert _refusal(case.value) == (case.field, case.sentence)
    assert served.causes(case.value) == []


def test_every_rule_is_broken_once() -> None:
    """Each rule refuses something here, but for those of changes (`test_changes`)."""
    told = {case.sentence for case in REFUSED.values()}
    changes = {rules.SERVER_STAYS, rules.SUBJECT_STAYS}
    unheard = [rule for rule in set(_rules()) - changes if not _is_told(rule, told)]
    assert unheard == []


def test_kubectl_tells_the_mend(cluster: KubeCluster, manifest: Path) -> None:
    """Who applies a bad object reads where it is wrong, and what to do."""
    manifest.write_text(json.dumps(_named(REFUSED["a trust that can never be reached"])))
    done = cluster.kubectl("apply", "--filename", str(manifest))
    assert done.returncode == 1
    assert done.stderr == (
        'The MCPAccessGrant "g" is invalid: spec: Invalid value: "object": never allows `del`: '
        "the rule needs trust high, and maxTrust is medium; raise maxTrust, or remove the rule\n"
    )


def test_a_value_with_a_line_break_is_left_out(served: Served) -> None:
    """The API server takes no line break in a sentence, and tells the rule alone."""
    (cause,) = served.causes(server(auth={"agentIDHeader": "X\nY"}))
    assert cause.text == (
        'Invalid value: "string": `…` is not a header name; '
        "use letters, digits and `-` (no underscore: Envoy refuses those)"
    )


def test_many_of_one_name(served: Served) -> None:
    """Of a list too long for the rule the API server itself says what is there twice."""
    many = [{"name": f"tool-{i}"} for i in range(500)]
    (cause,) = served.causes(grant(toolRules=[*many, {"name": "tool-7"}]))
    assert cause.field == "spec.toolRules[500]"
    assert cause.text == 'Duplicate value: {"name":"tool-7"}'


def test_choices_are_never_empty(served: Served) -> None:
    """A file may leave a choice empty; the API server wants it left out, as clients do."""
    parse_object(grant(maxTrust=""))
    causes = served.causes(grant(maxTrust=""))
    assert causes[0].text == 'Unsupported value: "": supported values: "low", "medium", "high"'


def _refusal(value: Any) -> tuple[str, str]:
    with pytest.raises(Invalid) as caught:
        _write(value)
    error = caught.value
    return error.field, f"{error.problem}; {error.mend}"


def _write(value: Any) -> None:
    """As a store takes a new object, where no API server looks at it."""
    resource = parse_object(value)
    if not isinstance(resource, MCPServer):
        check_write(None, resource)


def _rules() -> Iterator[Rule]:
    return (value for value in vars(rules).values() if isinstance(value, Rule))


def _is_told(rule: Rule, told: set[str]) -> bool:
    return any(sentence.endswith(rule.sentence.rpartition("{}")[2]) for sentence in told)


def _named(case: Case) -> Any:
    return case.value | {"metadata": case.value["metadata"] | {"namespace": "default"}}
