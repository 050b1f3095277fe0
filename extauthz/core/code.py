"""Words of fixed lists that are cheap to look up."""

from enum import StrEnum


class Code(StrEnum):
    """A word of a fixed list. It hashes as the text it is: Enum's own hash is a slow function."""

    __hash__ = str.__hash__
