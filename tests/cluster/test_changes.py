"""What may become of an object that is there: as the API server has it."""

import copy
from typing import Any

import pytest
from kubernetes.client import ApiException

from extauthz.core import rules
from tests.tools.kube_objects import Cause, Served, causes_of
from tests.unit.extauthz.core.objects import grant, server, session

REF = {"name": "srv", "namespace": "ns"}


def changed(served: Served, stored: Any, **spec: Any) -> list[Cause]:
    """Why a change of the stored object's spec is refused; members of None are taken away."""
    value = copy.deepcopy(stored)
    value["spec"] = {n: v for n, v in (value["spec"] | spec).items() if v is not None}
    try:
        served.replace(value)
    except ApiException as error:
        return causes_of(error)
    return []


@pytest.mark.parametrize("make", [grant, session])
def test_the_server_stays(served: Served, namespace: str, make: Any) -> None:
    """A grant or session is for one server for life; its namespace may be spelled out or not."""
    stored = served.create(make(serverRef={"name": "srv"}), namespace)
    (refusal,) = changed(served, stored, serverRef={"name": "other"})
    text = f'Invalid value: "object": {rules.SERVER_STAYS.sentence}'
    assert refusal == Cause("spec.serverRef", text)
    assert changed(served, stored, serverRef=REF) == []


def test_the_other_namespace_is_another_server(served: Served, namespace: str) -> None:
    """A server of the same name in another namespace is another server."""
    stored = served.create(grant(), namespace)
    (refusal,) = changed(served, stored, serverRef=REF | {"namespace": "other"})
    assert refusal.field == "spec.serverRef"


def test_the_subject_of_a_session_stays(served: Served, namespace: str) -> None:
    """A session is its subject's for life; a grant may be given to another."""
    stored = served.create(session(), namespace)
    (refusal,) = changed(served, stored, subject={"agentID": "b"})
    text = f'Invalid value: "object": {rules.SUBJECT_STAYS.sentence}'
    assert refusal == Cause("spec.subject", text)
    assert changed(served, served.create(grant(), namespace), subject={"agentID": "b"}) == []


def test_revoking_and_disabling(served: Served, namespace: str) -> None:
    """Nothing stands in the way of ending a grant or a session."""
    assert changed(served, served.create(session(), namespace), revoked=True) == []
    assert changed(served, served.create(grant(), namespace), disabled=True) == []


def test_lowering_trust(served: Served, namespace: str) -> None:
    """Nobody has to mend the rules first that allow nothing then."""
    rules_ = [{"name": "del", "requiredTrust": "high"}]
    stored = served.create(grant(maxTrust="high", toolRules=rules_), namespace)
    assert changed(served, stored, maxTrust="low") == []


def test_what_was_there_before_the_rules(served: Served, namespace: str) -> None:
    """A grant that breaks rules of today can be disabled as it is, and not be made worse.

    It was written before the rules were: by mcp-runtime, where its definitions stood first.
    """
    double = [{"name": "add"}, {"name": "add"}, {"name": "del", "requiredTrust": "high"}]
    old = grant("old", subject={}, toolRules=double)
    with served.without_rules(old):
        stored = served.create(old, namespace)
    fields = {cause.field for cause in changed(served, stored, toolRules=[*double, double[0]])}
    assert fields == {"spec.toolRules"}
    assert changed(served, stored, disabled=True) == []


def test_defaults_are_written(served: Served, namespace: str) -> None:
    """What unset means is stored, so that `kubectl get` shows it."""
    stored = served.create(grant(toolRules=[{"name": "add"}]), namespace)["spec"]
    assert (stored["maxTrust"], stored["disabled"]) == ("low", False)
    assert stored["toolRules"] == [{"name": "add", "decision": "allow"}]
    stored = served.create(server(policy={}, session={}, tools=[{"name": "a"}]), namespace)["spec"]
    assert stored["policy"] == {
        "mode": "allow-list",
        "defaultDecision": "deny",
        "policyVersion": "v1",
    }
    assert stored["session"] == {"maxLifetime": "24h", "idleTimeout": "1h"}
    assert stored["tools"] == [{"name": "a", "requiredTrust": "low"}]


def test_what_is_left_out_as_a_whole_stays_out(served: Served, namespace: str) -> None:
    """A server without a policy gets none: mcp-runtime reads that in its own way."""
    assert served.create(server(image="x"), namespace)["spec"] == {"image": "x"}
