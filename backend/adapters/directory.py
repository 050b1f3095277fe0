"""AccessStore over a folder of YAML: what a person edits on one machine.

Every call looks at the folder anew, by the decision point's rule: an edit shows at once, a
broken file keeps its last good objects, and an object that stands twice stays as it was.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend.adapters import directory_file
from backend.adapters.directory_text import File, checked, edited, key_of, names
from backend.adapters.yaml_text import new_text
from backend.ports.access_edits import prepare, require_version
from backend.ports.access_store import AccessStore, Binding, Edited, R, Stored
from extauthz.core import accessdir, accessreader
from extauthz.core.accessreader import AccessReader
from extauthz.core.canonical import canonical, digest
from extauthz.core.errors import Invalid, NotFound, Retryable
from extauthz.core.governance import Key
from extauthz.core.manifests import Placed, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession
from extauthz.core.times import format_second
from extauthz.core.writing import to_object

_MOST_TRIES: Final = 20  # while somebody else keeps saving the file


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is kept of an object beside the resource; as in `Stored`."""

    version: str
    created_at: str


_Reading = accessreader.Reading[_Facts]


class DirectoryStore(AccessStore):
    """The custom resources under `folder`, subfolders included.

    Args:
        clock: seconds since the epoch; for the creation time of what is made here.
        pause: waits for so many seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._clock, self._pause = folder, clock, pause
        self._reader = AccessReader(folder, keep=_facts, settle_seconds=0)
        self._reading_alone = threading.Lock()

    def objects(self, kind: type[R], namespace: str = "") -> Sequence[Stored[R]]:
        return _of_kind(self._read(), kind, namespace)

    def get(self, kind: type[R], namespace: str, name: str) -> Stored[R]:
        reading = self._read()
        for found in _of_kind(reading, kind, namespace):
            if found.resource.name == name:
                return found
        _refuse_twice(reading, Key(kind.__name__, namespace, name))
        raise NotFound(
            f"no {kind.__name__} `{namespace}/{name}` in the access folder; look at its list"
        )

    def ping(self) -> None:
        try:
            accessdir.find(self._folder)
        except OSError as error:
            raise _unreadable(self._folder, error) from error

    def edit(
        self,
        kind: type[Binding],
        namespace: str,
        name: str,
        change: Callable[[Binding | None], Binding | None],
        *,
        before_write: Callable[[Binding | None, Binding | None], None],
        expected: str = "",
    ) -> Edited[Binding]:
        key = Key(kind.__name__, namespace, name)
        with directory_file.locked(self._folder):
            for _ in range(_MOST_TRIES):
                try:
                    return self._edit(kind, key, change, before_write, expected)
                except directory_file.Moved:
                    continue
        raise Retryable(f"`{self._folder}` is being edited all the time; try again")

    def _edit(
        self,
        kind: type[Binding],
        key: Key,
        change: Callable[[Binding | None], Binding | None],
        before_write: Callable[[Binding | None, Binding | None], None],
        expected: str,
    ) -> Edited[Binding]:
        try:
            file, before = self._find(kind, key)
        except Invalid:  # somebody may be in the middle of saving it
            self._pause(accessdir.SETTLE_SECONDS)
            file, before = self._find(kind, key)
        require_version(key, before, expected)
        old = before.resource if before else None
        new = prepare(change(old), old, key, self._clock())
        if new == old:
            return Edited(before, before)
        return Edited(before, self._write(kind, file, key, old, new, before_write))

    def _find(self, kind: type[Binding], key: Key) -> tuple[File | None, Stored[Binding] | None]:
        """The object, and the file that it stands in.

        Raises:
            Invalid: it may stand in a broken file, or stands twice.
            Moved: the file is being edited.
        """
        reading = self._read()
        _refuse_twice(reading, key)
        files = reading.files.items()
        sound = (path for path, file in files if not file.faults and _holds(file.objects, key))
        found = next(sound, None)
        if found is None:
            for path, file in files:
                is_there = _holds((file.objects or ()) + file.partial, key)
                if file.faults and (is_there or key.name.encode() in _text(path)):
                    mend = "mend the file first: it does not count until then"
                    raise Invalid("", f"may stand in a broken file ({file.faults[0]})", mend)
            return None, None
        raw = _text(found)
        manifest = read_manifest(raw, str(found))
        for placed in manifest.objects:
            if manifest.faults:
                break
            if isinstance(placed.resource, kind) and key_of(placed.resource) == key:
                return File(found, raw, manifest), _stored(placed.resource, placed)
        raise directory_file.Moved

    def _write(
        self,
        kind: type[Binding],
        file: File | None,
        key: Key,
        old: Binding | None,
        new: Binding | None,
        before_write: Callable[[Binding | None, Binding | None], None],
    ) -> Stored[Binding] | None:
        """Write one object. Returns: it, as it stands now."""

        def recorded() -> None:
            before_write(old, new)

        def still_new() -> None:
            if self._find(kind, key)[0] is not None:
                raise directory_file.Moved
            before_write(old, new)

        if file is None:
            assert new is not None  # for it differs from none
            raw = self._new_file(new)
            manifest = checked(raw, key, new, None, str(self._folder))
            directory_file.create(self._folder, names(key), raw, still_new)
        else:
            raw = edited(file, key, old, new)
            manifest = checked(raw, key, new, file, str(file.path))
            if raw:
                directory_file.replace(file.path, raw, file.raw, recorded)
            else:
                directory_file.delete(file.path, file.raw, recorded)
        after = [p for p in manifest.objects if key_of(p.resource) == key]
        return _stored(new, after[0]) if new is not None else None

    def _new_file(self, new: MCPAccessGrant | MCPAgentSession) -> bytes:
        written = to_object(new)
        written["metadata"].setdefault("creationTimestamp", format_second(self._clock()))
        return new_text(written).encode()

    def _read(self) -> _Reading:
        with self._reading_alone:
            try:
                reading = self._reader.read()
            except OSError as error:
                raise _unreadable(self._folder, error) from error
        return reading


def _of_kind(reading: _Reading, kind: type[R], namespace: str) -> Sequence[Stored[R]]:
    found = [
        Stored(each.resource, each.kept.version, each.kept.created_at)
        for each in reading.objects
        if isinstance(each.resource, kind) and namespace in ("", each.resource.namespace)
    ]
    return sorted(found, key=lambda each: (each.resource.namespace, each.resource.name))


def _refuse_twice(reading: _Reading, key: Key) -> None:
    """Raises: Invalid: nobody knows which of them is meant."""
    if key in reading.duplicates:
        problem = f"no edit of it counts while it stands twice: {reading.duplicates[key][0]}"
        raise Invalid("", problem)


def _holds(objects: Sequence[accessreader.Standing[_Facts]] | None, key: Key) -> bool:
    return any(each.key == key for each in objects or ())


def _text(path: Path) -> bytes:
    try:
        return accessdir.read(path) if path.is_file() else b""
    except FileNotFoundError:  # removed since it was listed
        return b""
    except OSError as error:
        raise _unreadable(path, error) from error


def _facts(placed: Placed) -> _Facts:
    metadata = placed.document.value.get("metadata", {})
    created_at = metadata.get("creationTimestamp")
    version = digest(canonical(placed.document.value))
    return _Facts(version, created_at if isinstance(created_at, str) else "")


def _stored(resource: R, placed: Placed) -> Stored[R]:
    facts = _facts(placed)
    return Stored(resource, facts.version, facts.created_at)


def _unreadable(path: Path, error: OSError) -> Retryable:
    return Retryable(f"`{path}` cannot be read ({error.strerror}); make it readable")
