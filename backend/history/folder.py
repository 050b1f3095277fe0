"""What stands in an access directory now, read as the decision point reads it."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.core import accessdir
from extauthz.core.errors import Retryable
from extauthz.core.governance import Key
from extauthz.core.manifests import read_manifest
from extauthz.core.times import format_instant
from extauthz.core.writing import Object, to_object

SETTLE_SECONDS: Final = 0.05  # a file that is being written is empty or missing for a moment
MOST_ROUNDS: Final = 20

Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """An object that stands in a file.

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
        broken: files, relative, that do not count as they stand: what was last good in them does.
        is_ambiguous: an object stands there twice; then nothing of it counts.
    """

    objects: Mapping[Key, Standing]
    broken: frozenset[str]
    is_ambiguous: bool


@dataclass(frozen=True, slots=True)
class _File:
    signature: Signature
    objects: tuple[tuple[Key, Standing], ...]
    is_broken: bool


class Folder:
    """Reads what changed since it last did. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[Path, _File] = {}

    def read(self) -> Reading:
        """The directory, once nobody is writing in it.

        Raises:
            Retryable: it cannot be read.
        """
        try:
            listing = self._settled()
        except OSError as error:
            problem = f"`{error.filename or self.path}` cannot be read ({error.strerror})"
            raise Retryable(f"{problem}; make it a readable folder") from error
        for path, signature in listing.items():
            known = self._files.get(path)
            if known is None or known.signature != signature:
                self._files[path] = self._read(path, signature)
        self._files = {path: self._files[path] for path in listing}
        objects: dict[Key, Standing] = {}
        sound = [file for file in self._files.values() if not file.is_broken]
        for file in sound:
            objects.update(file.objects)
        return Reading(
            objects,
            frozenset(self._name(path) for path, file in self._files.items() if file.is_broken),
            is_ambiguous=len(objects) < sum(len(file.objects) for file in sound),
        )

    def _settled(self) -> dict[Path, Signature]:
        listing = self._list()
        if listing == {path: file.signature for path, file in self._files.items()}:
            return listing
        for _ in range(MOST_ROUNDS):
            time.sleep(SETTLE_SECONDS)
            earlier, listing = listing, self._list()
            if listing == earlier:
                break
        return listing

    def _list(self) -> dict[Path, Signature]:
        return {path: _signature(path) for path in accessdir.find(self.path)}

    def _read(self, path: Path, signature: Signature) -> _File:
        name = self._name(path)
        try:
            raw = accessdir.read(path)
            modified_at = format_instant(path.stat().st_mtime)
        except OSError:
            return _File(signature, (), is_broken=True)
        manifest = read_manifest(raw, name)
        if manifest.faults or not raw.strip():
            return _File(signature, (), is_broken=True)
        objects = []
        for placed in manifest.objects:
            resource = placed.resource
            key = Key(type(resource).__name__, resource.namespace, resource.name)
            objects.append((key, Standing(to_object(resource), name, modified_at)))
        return _File(signature, tuple(objects), is_broken=False)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.path))


def _signature(path: Path) -> Signature:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
