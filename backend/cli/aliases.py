"""Other names of components, as mcp-runtime's commands take them."""

from collections.abc import Mapping
from typing import Final

import click

from backend.ports.cluster import DISPLAY

ALIASES: Final[Mapping[str, str]] = {
    "prom": "prometheus",
    "otel": "otel-collector",
    "mcp-platform-api": "api",  # its newer releases have three
}


def key_of(name: str) -> str:
    """The key of a component. Raises: click.UsageError: there is no such component."""
    key = ALIASES.get(name, name)
    if key not in DISPLAY:
        raise click.UsageError(f"unknown component `{name}`; known: {', '.join(DISPLAY)}")
    return key
