"""Forms of grants and sessions: what was typed, as the api takes it, and back again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TRUST: Final = ("low", "medium", "high")
SIDE_EFFECTS: Final = ("read", "write", "destructive")
SUBJECT: Final = {"human": "humanID", "agent": "agentID", "team": "teamID"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What grants and sessions differ in, for pages.

    Args:
        noun: of one; its plural is the path of the api.
        flag: the member that puts one out of force; `off` and `on` set and clear it.
        trust: the member with the trust that is given.
    """

    noun: str
    flag: str
    off: str
    on: str
    trust: str

    @property
    def nouns(self) -> str:
        return f"{self.noun}s"

    @property
    def path(self) -> str:
        return f"/api/runtime/{self.nouns}"


GRANT: Final = Kind("grant", "disabled", "disable", "enable", "maxTrust")
SESSION: Final = Kind("session", "revoked", "revoke", "unrevoke", "consentedTrust")
KINDS: Final = {kind.nouns: kind for kind in (GRANT, SESSION)}


def typed(form: Mapping[str, Any], kind: Kind, side_effects: list[str]) -> dict[str, Any]:
    """What a form says, as the api takes it; what was left empty is left out.

    Args:
        side_effects: the boxes that were ticked.
    """
    said = {name: str(form.get(name, "")).strip() for name in form}
    namespace, _, server = said.get("server", "").rpartition("/")
    body: dict[str, Any] = {
        "name": said.get("name", ""),
        "namespace": said.get("namespace", ""),
        "serverRef": {"name": server, **({"namespace": namespace} if namespace else {})},
        "subject": {api: said[ours] for ours, api in SUBJECT.items() if said.get(ours)},
        kind.trust: said.get("trust", ""),
        "expiresAt": _instant(said.get("expires", "")),
        "policyVersion": said.get("policy_version", ""),
    }
    if kind is GRANT:
        body["toolRules"] = said.get("rules", "")
        body["allowedSideEffects"] = side_effects
    return {name: value for name, value in body.items() if value not in ("", [], {})}


def _instant(text: str) -> str:
    """A browser's `datetime-local` is without a zone; the form says that it means UTC."""
    if not text or text.endswith("Z"):
        return text
    return f"{text}:00Z" if text.count(":") == 1 else f"{text}Z"


def filled(item: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """The form of an object that is there."""
    subject, server = item.get("subject", {}), item.get("serverRef", {})
    namespace = server.get("namespace") or item.get("namespace", "")
    rules = (_line(rule) for rule in item.get("toolRules") or ())
    return {
        "name": item.get("name", ""),
        "namespace": item.get("namespace", ""),
        "server": f"{namespace}/{server.get('name', '')}",
        **{ours: subject.get(api, "") for ours, api in SUBJECT.items()},
        "trust": item.get(kind.trust, ""),
        "expires": str(item.get("expiresAt") or "").removesuffix("Z")[:16],
        "policy_version": item.get("policyVersion", ""),
        "rules": "\n".join(rules),
        "side_effects": list(item.get("allowedSideEffects") or ()),
    }


def _line(rule: Mapping[str, Any]) -> str:
    """`tool:allow`, with the trust where one is asked for."""
    return ":".join(filter(None, (rule["name"], rule["decision"], rule.get("requiredTrust"))))


def matches(item: Mapping[str, Any], query: str) -> bool:
    """Whether the search box finds it: by name, server, human, agent or team."""
    server, subject = item.get("serverRef", {}), item.get("subject", {})
    texts = (item.get("name"), item.get("namespace"), *server.values(), *subject.values())
    return query.lower() in " ".join(str(text) for text in texts if text).lower()
