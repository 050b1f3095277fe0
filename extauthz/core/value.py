"""Values of the answer path: frozen dataclasses that are cheap to make, codes cheap to look up."""

from enum import StrEnum
from typing import TYPE_CHECKING

__all__ = ["Code", "value"]


class Code(StrEnum):
    """A word of a fixed list. It hashes as the text it is: Enum's own hash is a slow function."""

    __hash__ = str.__hash__


if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen, **options):
        """`dataclasses.dataclass` for many short-lived values; the type checker keeps them frozen.

        At run time setting each field past the lock would be a third of what a decision costs.
        """
        return dataclass(unsafe_hash=frozen, **options)
