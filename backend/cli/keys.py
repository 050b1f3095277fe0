"""`sentinel keys new`: makes an API key, and its entry for API_KEYS_FILE."""

import json
import secrets

import click
import yaml

from backend.auth.api_keys import digest_of
from backend.auth.key_file import read_keys
from backend.auth.principal import Component, Scope
from backend.cli.console import Failure, Group, json_option
from extauthz.core.errors import Invalid

PREFIX = "sentinel_"  # lets scanners for leaked secrets know it


@click.group(cls=Group)
def keys() -> None:
    """Make API keys, without a running Sentinel."""


@keys.command()
@click.option("--name", required=True, help="Shows in the audit as `producer`.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; repeatable.",
)
@click.option(
    "--namespace", "namespaces", multiple=True, help="Where; repeatable. Default: everywhere."
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NS/NAME",
    help="The only servers whose events it may send; repeatable.",
)
@click.option(
    "--component",
    type=click.Choice([component.value for component in Component]),
    help="Whose own key it is; only such a key may send governance.* events.",
)
@json_option
def new(
    *,
    name: str,
    scopes: tuple[str, ...],
    namespaces: tuple[str, ...],
    servers: tuple[str, ...],
    component: str | None,
    as_json: bool,
) -> None:
    """Print a new key, this once, and the entry that lets it in.

    The entry holds only the key's SHA-256. To replace a key, add the new digest to the `sha256`
    of the old entry, give the client the new key, then take the old digest out.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    namespaces = namespaces or tuple(sorted({server.partition("/")[0] for server in servers}))
    entry: dict[str, object] = {
        "name": name,
        "scopes": list(scopes),
        "namespaces": list(namespaces) or ["*"],
    }
    if servers:
        entry["servers"] = list(servers)
    if component:
        entry["component"] = component
    entry["sha256"] = [digest_of(key).hex()]
    document = {"keys": [entry]}
    try:
        read_keys(json.dumps(document).encode(), "entry")
    except Invalid as error:
        raise Failure(str(error).removeprefix("API_KEYS_FILE: `entry` line 1, keys[0].")) from error
    if as_json:
        print(json.dumps({"key": key, "entry": entry}))
        return
    print(f"key: {key}")
    print("It is shown this once: give it to the client now. Append this to API_KEYS_FILE:\n")
    print(yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=200), end="")
