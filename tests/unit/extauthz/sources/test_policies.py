"""The holder of the running policy."""

import logging

import pytest

from extauthz.core.compile import compile_document
from extauthz.core.decision import PolicyFacts
from extauthz.core.manifests import Fault
from extauthz.sources.policies import Policies, Reload

FAULT = Fault("a.yaml", 3, "spec.x", "is odd", "mend it")


def test_before_any_policy() -> None:
    """At first there is no policy, and the fault says why."""
    policies = Policies(PolicyFacts(server="demo"))
    assert (policies.is_ready, policies.current.fault) == (False, "no policy yet")
    policies.report((FAULT,))
    assert policies.current.fault == "a.yaml:3: spec.x: is odd; mend it"
    assert policies.current.facts.server == "demo"


def test_fault_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A fault is logged and counted once, however often it is seen, and its mending too."""
    policies = Policies(PolicyFacts())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            policies.report((FAULT,))
        policies.report((FAULT, Fault("b.yaml", 0, "", "is odd")))
        policies.report(())
        policies.report(())
    assert [record.message for record in caplog.records] == [
        "policy source at fault",
        "policy source at fault",
        "policy source mended",
    ]
    assert policies.reloads[Reload.FAILURE] == 2


def test_swap() -> None:
    """Another revision is another snapshot; the same one keeps its compiled policy."""
    policies = Policies(PolicyFacts())
    first = compile_document({"server": {"name": "demo"}})
    policies.run(first, confirmed_at=1.0, now=1.0)
    policies.run(compile_document({"server": {"name": "demo"}}), confirmed_at=2.0, now=2.0)
    assert policies.current.policy is first
    assert (policies.current.confirmed_at, policies.changed_at) == (2.0, 1.0)
    policies.run(compile_document({"server": {"name": "other"}}), confirmed_at=3.0, now=3.0)
    assert policies.current.facts.server == "other"
    assert policies.reloads == {Reload.SUCCESS: 2, Reload.FAILURE: 0, Reload.UNCHANGED: 1}


def test_that_anybody_is_believed_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """At the first policy that is so, and again when one that was not is followed by one."""
    policies = Policies(PolicyFacts())
    told = []
    for name, auth in (
        ("a", {}),
        ("b", {}),
        ("c", {"mode": "header", "trusted_peers": ["10.0.0.0/8"]}),
        ("d", {"mode": "none"}),
        ("e", {"mode": "header"}),
    ):
        caplog.clear()
        policy = compile_document({"server": {"name": name}, "auth": auth})
        policies.run(policy, confirmed_at=1.0, now=1.0)
        told += [name for record in caplog.records if "every peer may say" in record.message]
    assert told == ["a", "e"]


@pytest.mark.parametrize(("stale", "seconds"), [("", 5.0), ("1h", 5.0), ("6s", 2.0), ("1s", 1 / 3)])
def test_the_poll_confirms_before_the_policy_is_stale(stale: str, seconds: float) -> None:
    """Three times over, else a good policy would be stale between two polls; no busy loop."""
    policies = Policies(PolicyFacts())
    assert policies.poll_seconds(5.0) == 5.0
    limit = {"policy": {"max_staleness": stale}} if stale else {}
    made = {"server": {"name": "s", "namespace": "n"}, "generated_at": "2026-01-01T00:00:00Z"}
    policies.run(compile_document(made | limit), confirmed_at=1.0, now=1.0)
    assert policies.poll_seconds(5.0) == pytest.approx(seconds)
