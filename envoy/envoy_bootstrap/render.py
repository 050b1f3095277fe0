"""A bootstrap as text: YAML for people, JSON for the process."""

import json
from typing import Any

import betterproto2
import yaml
from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap


def to_yaml(bootstrap: Bootstrap) -> str:
    """Render for reading and for a ConfigMap."""
    return yaml.safe_dump(_plain(bootstrap), sort_keys=False, width=100, allow_unicode=True)


def to_json(bootstrap: Bootstrap) -> str:
    """Render for Envoy."""
    return json.dumps(_plain(bootstrap), indent=2) + "\n"


def _plain(bootstrap: Bootstrap) -> Any:
    tree = bootstrap.to_dict(casing=betterproto2.Casing.SNAKE)
    # A protobuf Struct knows floats only; -32600.0 reads badly.
    return json.loads(json.dumps(tree), parse_float=_number)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value
