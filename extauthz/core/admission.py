"""What a write of a grant or session may not do, though such an object is read where it stands.

An API server refuses it by the same rules in CEL (`k8s/crds/`).
"""

from typing import TypeVar

from extauthz.core import rules
from extauthz.core.model import TRUST_LEVELS, MCPAccessGrant, MCPAgentSession
from extauthz.core.resources import parse_object
from extauthz.core.writing import to_object

Binding = TypeVar("Binding", MCPAccessGrant, MCPAgentSession)


def check_write(before: Binding | None, after: Binding) -> None:
    """Refuse what cannot be read, a change of what an object is about, and new useless rules.

    A change that only tightens is taken, unless it moves the object: whoever lowers a trust, or
    adds a denial, need not mend rules first that allow nothing (`findings` tells of those).

    Args:
        before: None for a new object.

    Raises:
        Invalid: with the field's path and the mend.
    """
    parse_object(to_object(after))
    if before is not None and before.server != after.server:
        raise rules.SERVER_STAYS.refusal("spec.serverRef")
    if isinstance(after, MCPAgentSession):
        if before is not None and before.subject != after.subject:
            raise rules.SUBJECT_STAYS.refusal("spec.subject")
        return
    if before is not None:
        return
    for i, rule in enumerate(after.tool_rules):
        needed = rule.required_trust
        if rule.decision == "allow" and needed and _rank(needed) > _rank(after.max_trust):
            where = f"spec.toolRules[{i}]"
            raise rules.TRUST_REACHED.refusal(where, rule.name, needed, after.max_trust)


def _rank(trust: str) -> int:
    return TRUST_LEVELS.index(trust)
