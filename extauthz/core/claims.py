"""The claims of a verified token."""

import re
from collections.abc import Mapping
from typing import Any, Final

# What stands unchanged in a header: the identity goes to the server in one.
_HEADER_SAFE: Final = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?")


class BadToken(Exception):
    """The token cannot be accepted; the message is for the caller, and never quotes it."""


def first_claim(claims: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these claims that says something; empty where none does.

    Raises:
        BadToken: it is not a string that fits in a header.
    """
    for name in names:
        value = claims.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str) or not _HEADER_SAFE.fullmatch(value):
            raise BadToken(f"claim {name} is not a string that fits in a header")
        return value
    return ""
