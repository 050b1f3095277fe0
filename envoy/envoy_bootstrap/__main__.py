"""`python -m envoy_bootstrap sidecar|gateway [--option …] > file`."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envoy_data_plane.envoy.config.bootstrap.v3 import Bootstrap

from envoy_bootstrap.gateway import gateway
from envoy_bootstrap.options import (
    GatewayOptions,
    ListenerOptions,
    SidecarOptions,
    Upstream,
    named,
)
from envoy_bootstrap.render import to_json, to_yaml
from envoy_bootstrap.sidecar import sidecar
from extauthz.core.errors import Invalid

HEADER = """\
# Made by `python -m envoy_bootstrap {kind}{given}`; change that, not this.
# A field that is not here has Envoy's default, and a false flag is left out:
# `failure_mode_allow` and `allow_partial_message`, for instance, are false.
"""

_KINDS: Mapping[str, tuple[type[ListenerOptions], Callable[[Any], Bootstrap]]] = {
    "sidecar": (SidecarOptions, sidecar),
    "gateway": (GatewayOptions, gateway),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one bootstrap; return the exit code."""
    given = vars(_parser().parse_args(arguments))
    kind, json_wanted = given.pop("kind"), given.pop("json")
    options_type, build = _KINDS[kind]
    try:
        options = options_type(**{name: _read(name, each) for name, each in given.items()})
    except Invalid as error:
        print(f"envoy_bootstrap: {error}", file=sys.stderr)  # noqa: T201
        return 2
    built = build(options)
    if json_wanted:
        sys.stdout.write(to_json(built))
    else:
        said = "".join(f" --{name.replace('_', '-')} {value}" for name, value in given.items())
        sys.stdout.write(HEADER.format(kind=kind, given=said) + to_yaml(built))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="envoy_bootstrap", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, (options_type, _) in _KINDS.items():
        one = kinds.add_parser(kind, argument_default=argparse.SUPPRESS)
        one.add_argument("--json", action="store_true", default=False, help="JSON, not YAML")
        for name, (default, text) in named(options_type).items():
            reader = str if isinstance(default, Upstream) else type(default)
            shown = f"{text} [{default}]"
            one.add_argument(f"--{name.replace('_', '-')}", dest=name, type=reader, help=shown)
    return parser


def _read(name: str, value: Any) -> Any:
    return Upstream.parse(value, name) if name in {"upstream", "ui", "ingest"} else value


if __name__ == "__main__":
    sys.exit(main())
