"""What stands in an access directory now, read as the decision point reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extauthz.core.accessdir import SETTLE_SECONDS
from extauthz.core.accessreader import AccessReader
from extauthz.core.errors import Retryable
from extauthz.core.governance import Key
from extauthz.core.manifests import Placed
from extauthz.core.times import format_instant
from extauthz.core.writing import Object, to_object


@dataclass(frozen=True, slots=True)
class Standing:
    """An object that counts.

    Args:
        file: relative to the directory.
        modified_at: when it was written, RFC 3339.
    """

    written: Object
    file: str
    modified_at: str


@dataclass(frozen=True, slots=True)
class Reading:
    """The objects of a directory.

    Args:
        objects: those that count, last good ones of broken files too.
        broken: files, relative, that do not count as they stand: what was recorded of them does.
        is_ambiguous: an object stands there twice; then nothing of it counts.
    """

    objects: Mapping[Key, Standing]
    broken: frozenset[str]
    is_ambiguous: bool


class Folder:
    """Reads what changed since it last did. Blocking.

    Args:
        settle_seconds: how long a change must stand before it counts.
    """

    def __init__(self, path: Path, settle_seconds: float = SETTLE_SECONDS) -> None:
        self.path = path
        self._reader = AccessReader(path, keep=_written, settle_seconds=settle_seconds)

    def read(self) -> Reading:
        """The directory, once nobody is writing in it.

        Raises:
            Retryable: it cannot be read.
        """
        try:
            reading = self._reader.read()
        except OSError as error:
            problem = f"`{error.filename or self.path}` cannot be read ({error.strerror})"
            raise Retryable(f"{problem}; make it a readable folder") from error
        objects: dict[Key, Standing] = {}
        for file in reading.files.values():
            modified_at = format_instant(file.modified_at)
            for each in file.objects or ():
                objects.setdefault(each.key, Standing(each.kept, each.file, modified_at))
        broken = frozenset(
            str(path.relative_to(self.path))
            for path, file in reading.files.items()
            if file.faults or file.is_blank
        )
        return Reading(objects, broken, is_ambiguous=bool(reading.duplicates))


def _written(placed: Placed) -> Object:
    return to_object(placed.resource)
