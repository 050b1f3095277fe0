"""`sentinel keys new`: the key it prints is the one that its entry lets in."""

import json

import yaml
from click.testing import CliRunner, Result

from backend.auth.api_keys import ApiKeys
from backend.auth.key_file import read_keys
from backend.auth.principal import Component, Scope
from backend.cli.main import sentinel


def new(*options: str) -> Result:
    return CliRunner().invoke(sentinel, ["keys", "new", *options])


def test_a_key_and_its_entry() -> None:
    """The entry can be used as it is printed, and does not hold the key."""
    result = new("--name", "billing", "--scope", "ingest", "--server", "team-a/billing")
    assert result.exit_code == 0
    head, _, entry = result.output.partition("\n\n")
    key = head.splitlines()[0].removeprefix("key: ")
    assert key not in entry
    found = ApiKeys(read_keys(entry.encode(), "keys.yaml")).verify([key])
    assert (found.name, found.scopes) == ("billing", {Scope.INGEST})
    assert found.origins
    assert found.origins.hold("team-a", "billing")
    assert not found.origins.hold("team-a", "other")


def test_json() -> None:
    """The same for programs; without a namespace it reaches everywhere."""
    result = new("--name", "the-api", "--scope", "ingest", "--component", "api", "--json")
    told = json.loads(result.output)
    raw = yaml.safe_dump({"keys": [told["entry"]]}).encode()
    found = ApiKeys(read_keys(raw, "keys.yaml")).verify([told["key"]])
    assert (found.component, found.namespaces, found.origins) == (Component.API, None, None)
    assert (
        told["key"]
        != json.loads(new("--name", "the-api", "--scope", "ingest", "--json").output)["key"]
    )


def test_what_makes_no_entry() -> None:
    """The same rules as for the file; no key is printed."""
    for options in (
        ("--name", "Billing", "--scope", "ingest"),
        ("--name", "billing", "--scope", "read", "--server", "team-a/billing"),
        ("--name", "billing", "--scope", "ingest", "--namespace", "b", "--server", "a/x"),
        ("--name", "billing", "--scope", "ingest", "--server", "billing"),
    ):
        result = new(*options)
        assert result.exit_code == 1
        assert "error: " in result.output
        assert "key: " not in result.output
    assert new("--name", "billing").exit_code == 2
    assert new("--name", "billing", "--scope", "all").exit_code == 2
