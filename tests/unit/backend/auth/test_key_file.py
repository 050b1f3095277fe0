"""API_KEYS_FILE: who its keys stand for, and what is wrong with a bad one."""

import json
from hashlib import sha256
from typing import Any

import pytest

from backend.auth.api_keys import ApiKeys, from_lists
from backend.auth.key_file import read_keys
from backend.auth.principal import Component, Origins, Principal, Scope
from extauthz.core.errors import Invalid

OLD, NEW = (sha256(key).hexdigest() for key in (b"old", b"new"))


def entry(**members: Any) -> dict[str, Any]:
    usual = {"name": "billing", "scopes": ["ingest"], "namespaces": ["team-a"], "sha256": OLD}
    return {name: value for name, value in (usual | members).items() if value is not ...}


def principal_of(key: str, *entries: dict[str, Any]) -> Principal:
    raw = json.dumps({"keys": entries}).encode()
    return ApiKeys(read_keys(raw, "/keys.json")).verify([key])


def test_yaml() -> None:
    """An entry in YAML; several digests are one principal while a key is being replaced."""
    raw = f"""
keys:
  - name: billing
    scopes: [ingest, read]
    namespaces: [team-a, team-b]
    servers: [team-a/billing]
    sha256:
      - {OLD}
      - {NEW.upper()}
"""
    keys = ApiKeys(read_keys(raw.encode(), "/keys.yaml"))
    found = keys.verify(["old"])
    assert found is keys.verify(["new"])
    assert found == Principal(
        "billing",
        frozenset({Scope.INGEST, Scope.READ}),
        frozenset({"team-a", "team-b"}),
        Origins(frozenset({"team-a", "team-b"}), frozenset({("team-a", "billing")})),
    )


def test_everywhere() -> None:
    """`*` alone is every namespace; a server still binds."""
    assert principal_of("old", entry(namespaces=["*"])).origins is None
    bound = principal_of("old", entry(namespaces=["*"], servers=["team-a/billing"]))
    assert bound.namespaces is None
    assert bound.origins is not None
    assert bound.origins.hold("team-a", "billing")
    assert not bound.origins.hold("team-a", "other")


def test_component() -> None:
    """A component's own key says so."""
    found = principal_of("old", entry(namespaces=["*"], component="controller"))
    assert found.component is Component.CONTROLLER


BAD = [
    # entries, entry and field, problem
    ([entry(name=...)], "keys[0].name", "is required"),
    ([entry(name="Billing")], "keys[0].name (`Billing`)", "is no name for a key"),
    ([entry(name="key-0123456789ab")], "keys[0].name (`key-0123456789ab`)", "is no name"),
    ([entry(name="oidc:alice")], "keys[0].name (`oidc:alice`)", "is no name"),
    ([entry(), entry(sha256=NEW)], "keys[1].name (`billing`)", "stands twice"),
    ([entry(scopes=...)], "keys[0].scopes (`billing`)", "is required"),
    ([entry(scopes=["ingest", "all"])], "keys[0].scopes[1] (`billing`)", "unknown value `all`"),
    ([entry(scopes="ingest")], "keys[0].scopes (`billing`)", "must be a list"),
    ([entry(namespaces=...)], "keys[0].namespaces (`billing`)", "is required"),
    ([entry(namespaces=["team-a", "*"])], "keys[0].namespaces (`billing`)", "names `*` and others"),
    ([entry(namespaces=["Team A"])], "keys[0].namespaces[0] (`billing`)", "is no namespace"),
    ([entry(servers=["billing"])], "keys[0].servers[0] (`billing`)", "names no server"),
    ([entry(servers=["team-b/x"])], "keys[0].servers[0] (`billing`)", "lies in none"),
    ([entry(scopes=["read"], servers=["team-a/x"])], "keys[0].servers (`billing`)", "needs the sc"),
    ([entry(component="ui")], "keys[0].component (`billing`)", "unknown value `ui`"),
    ([entry(scopes=["read"], component="api")], "keys[0].component (`billing`)", "needs the scope"),
    ([entry(sha256=...)], "keys[0].sha256 (`billing`)", "is not the SHA-256"),
    ([entry(sha256="the key itself")], "keys[0].sha256 (`billing`)", "is not the SHA-256"),
    ([entry(sha256=[OLD, "short"])], "keys[0].sha256 (`billing`)", "is not the SHA-256"),
    ([entry(sha256=[OLD, OLD])], "keys[0].sha256 (`billing`)", "names one key twice"),
    ([entry(sha265=OLD)], "keys[0].sha265 (`billing`)", "is not a known field"),
    ([], "keys", "holds no entry"),
    (["billing"], "keys[0]", "must be an object"),
    ("billing", "keys", "must be a list"),
]


@pytest.mark.parametrize(("entries", "where", "problem"), BAD)
def test_a_bad_file(entries: Any, where: str, problem: str) -> None:
    """The error names file, line, entry and field, and the mend; never what may be a key."""
    raw = json.dumps({"keys": entries}, indent=1).encode()
    with pytest.raises(Invalid) as refused:
        read_keys(raw, "/etc/keys.json")
    text = str(refused.value)
    assert text.startswith("API_KEYS_FILE: `/etc/keys.json` line ")
    assert f", {where}" in text
    assert problem in text
    assert refused.value.mend
    assert "the key itself" not in text


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "must hold one document"),
        (b"keys: [\n", "is not YAML"),
        (b"keys: []\nkeys: []\n", "keys"),
        (b'{"keys": [{"name": "a", "name": "b"}]}', "name"),
        (b"keys: []\n---\nkeys: []\n", "must hold one document"),
        (b"key: []\n", "is not a known field"),
        (b"- name: a\n", "must be an object"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_what_is_no_file_of_keys(raw: bytes, problem: str) -> None:
    """Duplicate keys, other documents, and what is no YAML."""
    with pytest.raises(Invalid, match=problem) as refused:
        read_keys(raw, "/etc/keys.yaml")
    assert "/etc/keys.yaml" in str(refused.value)


def test_one_key_for_two() -> None:
    """A key that two entries or a plain list share is refused: it would name either."""
    both = [entry(), entry(name="other")]
    with pytest.raises(Invalid, match="`billing` and `other` have the same key"):
        ApiKeys(read_keys(json.dumps({"keys": both}).encode(), "/keys.json"))
    listed = read_keys(json.dumps({"keys": [entry()]}).encode(), "/keys.json")
    with pytest.raises(Invalid, match="have the same key"):
        ApiKeys([*from_lists(["old"], [], []), *listed])
