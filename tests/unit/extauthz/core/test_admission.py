"""What a store refuses to write, with an API server or without."""

from typing import Any

import pytest
from objects import grant, session

from extauthz.core.admission import check_write
from extauthz.core.errors import Invalid
from extauthz.core.resources import parse_object

HIGH = [{"name": "del", "requiredTrust": "high"}]
DENY = {"name": "read", "decision": "deny"}
OTHER = {"name": "other", "namespace": "ns"}

REFUSED = [
    (None, grant(toolRules=HIGH), "spec.toolRules[0]", "raise maxTrust"),
    (None, grant(maxTrust="medium", toolRules=HIGH), "spec.toolRules[0]", "never allows `del`"),
    (grant(), grant(serverRef=OTHER), "spec.serverRef", "create another object"),
    (session(), session(serverRef=OTHER), "spec.serverRef", "create another object"),
    (session(), session(subject={"agentID": "b"}), "spec.subject", "create another session"),
]
TAKEN = [
    (None, grant()),
    (None, session()),
    (None, grant(maxTrust="high", toolRules=HIGH)),
    (None, grant(toolRules=[HIGH[0] | {"decision": "deny"}])),
    (grant(), grant(subject={"agentID": "b"})),
    (grant(), grant(serverRef={"name": "srv"})),
    (grant(toolRules=HIGH), grant(toolRules=HIGH, disabled=True)),
    (grant(maxTrust="high", toolRules=HIGH), grant(toolRules=HIGH)),
    (grant(toolRules=HIGH), grant(toolRules=[*HIGH, DENY])),
    (session(), session(revoked=True)),
]


@pytest.mark.parametrize(("before", "after", "field", "words"), REFUSED)
def test_refused(before: Any, after: Any, field: str, words: str) -> None:
    """The refusal names the field and the mend."""
    with pytest.raises(Invalid) as caught:
        check_write(before and parse_object(before), parse_object(after))  # type: ignore[type-var]
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(("before", "after"), TAKEN)
def test_taken(before: Any, after: Any) -> None:
    """All else may be written, and what was there before stands in nobody's way."""
    held = before and parse_object(before)
    assert check_write(held, parse_object(after)) is None  # type: ignore[type-var]
