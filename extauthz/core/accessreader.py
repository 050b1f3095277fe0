"""Reads an access directory over and over: one rule for broken files and contradictions.

- A file counts as a whole. One that breaks, or is emptied, keeps its last good objects; one
  that was never good has none, and may hold a denial.
- Objects of one name contradict each other, whichever files they stand in: that object stays as
  it last counted, and one that never did has no place. All others count as they stand.
- A change counts once it has stood for a while.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from extauthz.core import accessdir
from extauthz.core.accessdir import Listing
from extauthz.core.governance import Key
from extauthz.core.manifests import Fault, Placed, read_manifest
from extauthz.core.model import Resource

_COARSE_NS: Final = 50_000_000  # two writes so close together may leave the same times
_MOST_ROUNDS: Final = 20  # a directory that changes while it is read is read again

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Standing(Generic[K]):
    """One object and its place; what stays in memory of a file.

    Args:
        file: relative to the directory.
        kept: what the reader's user keeps of it.
    """

    resource: Resource
    file: str
    line: int
    kept: K

    @property
    def key(self) -> Key:
        resource = self.resource
        return Key(type(resource).__name__, resource.namespace, resource.name)

    def fault(self, problem: str, mend: str, field: str = "") -> Fault:
        return Fault(self.file, self.line, field, problem, mend)


@dataclass(frozen=True, slots=True)
class File(Generic[K]):
    """A file: its last good objects, and what is wrong with it now.

    Args:
        objects: those that count; None where the file was never good.
        faults: none where it counts as it stands.
        modified_at: when the objects were written, seconds since the epoch.
        is_blank: nothing stands in it now.
        partial: what can be read in it now, where it has faults.
    """

    objects: tuple[Standing[K], ...] | None
    faults: tuple[Fault, ...]
    modified_at: float = 0.0
    is_blank: bool = False
    partial: tuple[Standing[K], ...] = ()


@dataclass(frozen=True, slots=True)
class Reading(Generic[K]):
    """A directory.

    Args:
        files: sorted by path.
        objects: those that count, one of each name; last good ones too.
        duplicates: what is wrong with those that stand twice, by object.
    """

    files: Mapping[Path, File[K]]
    objects: tuple[Standing[K], ...]
    duplicates: Mapping[Key, tuple[Fault, ...]]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with files and with objects that stand twice."""
        of_files = (fault for file in self.files.values() for fault in file.faults)
        of_objects = (fault for faults in self.duplicates.values() for fault in faults)
        return (*of_files, *of_objects)

    @property
    def unclear(self) -> frozenset[Key]:
        """Objects that stand twice and never counted."""
        return frozenset(self.duplicates.keys() - {each.key for each in self.objects})

    @property
    def is_known(self) -> bool:
        """False where a file or an object was never good: it may hold a denial."""
        is_read = all(file.objects is not None for file in self.files.values())
        return is_read and not self.unclear


class AccessReader(Generic[K]):
    """Reads what changed since it last did. Blocking, and for one thread at a time.

    Args:
        folder: YAML files, in subfolders too.
        keep: what its user keeps of each object beside the resource.
        settle_seconds: how long a change must stand before it counts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: Callable[[Placed], K],
        settle_seconds: float = accessdir.SETTLE_SECONDS,
    ) -> None:
        self._folder, self._keep, self._settle_seconds = folder, keep, settle_seconds
        self._seen: Listing = {}
        self._reading: Reading[K] = Reading({}, (), {})

    def read(self) -> Reading[K]:
        """The directory now; the very same reading where nothing changed.

        Raises:
            OSError: a folder cannot be listed; what was read before still stands.
        """
        for _ in range(_MOST_ROUNDS):
            seen = accessdir.settled(self._scan, self._seen, self._settle_seconds)
            before = self._reading.files
            changed = {p for p, at in seen.items() if at is None or self._seen.get(p) != at}
            if not changed and seen.keys() == before.keys():
                return self._reading
            files = {path: self._file(path) if path in changed else before[path] for path in seen}
            read_at = time.time_ns()
            if self._scan() == seen:
                break
        if files != before:
            self._reading = _reading(files, self._reading.objects)
        self._seen = {  # what was written right before is read once more
            path: at if at and abs(read_at - at[-1]) > _COARSE_NS else None
            for path, at in seen.items()
        }
        return self._reading

    def _scan(self) -> Listing:
        return {path: accessdir.signature(path) for path in accessdir.find(self._folder)}

    def _file(self, path: Path) -> File[K]:
        name = str(path.relative_to(self._folder))
        last: File[K] = self._reading.files.get(path, File(None, ()))
        try:
            raw = accessdir.read(path)
            modified_at = path.stat().st_mtime
        except OSError as error:
            fault = Fault(name, 0, "", f"cannot be read ({error.strerror})", "mend or delete it")
            return File(last.objects, (fault,), last.modified_at)
        is_blank = not raw.strip()
        if last.objects and is_blank:
            mend = "delete the file to take its objects away"
            fault = Fault(name, 0, "", "is empty now", mend)
            return File(last.objects, (fault,), last.modified_at, is_blank)
        manifest = read_manifest(raw, name)
        objects = tuple(
            Standing(placed.resource, name, placed.document.line, self._keep(placed))
            for placed in manifest.objects
        )
        if manifest.faults:
            return File(last.objects, manifest.faults, last.modified_at, is_blank, objects)
        return File(objects, (), modified_at, is_blank)


def _reading(files: Mapping[Path, File[K]], counted: Iterable[Standing[K]]) -> Reading[K]:
    """`counted`: the objects that did until now."""
    standing: dict[Key, list[Standing[K]]] = {}
    for file in files.values():
        for each in file.objects or ():
            standing.setdefault(each.key, []).append(each)
    twice = {key: tuple(_twice(found)) for key, found in standing.items() if len(found) > 1}
    last = {each.key: each for each in counted if each.key in twice}
    counting = (last.get(key) if key in twice else found[0] for key, found in standing.items())
    return Reading(files, tuple(each for each in counting if each), twice)


def _twice(found: Sequence[Standing[K]]) -> Iterator[Fault]:
    first, *others = found
    for each in others:
        name = f"{each.key.kind} `{each.key.namespace}/{each.key.name}`"
        problem = f"second {name} (the first is {first.file}:{first.line})"
        yield each.fault(problem, "keep one of them", "metadata.name")
