"""AccessStore over a folder of YAML: what a person edits on one machine.

Every call reads the folder anew: it is small, and an edit shows at once. An object
that does not validate is left out; the decision point's status names its fault.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from backend.adapters import directory_file
from backend.adapters.yaml_text import changed_text, cut_text, new_text
from backend.ports.access_store import Binding, Edited, R, Stored
from extauthz.core import accessdir
from extauthz.core.canonical import canonical, digest
from extauthz.core.errors import Conflict, Invalid, NotFound, Retryable
from extauthz.core.governance import Key
from extauthz.core.manifests import Manifest, Placed, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.times import format_instant
from extauthz.core.writing import to_object

_MOST_TRIES: Final = 20  # while somebody else keeps saving the file
_FILE_NAMES: Final = {"MCPAccessGrant": "grant", "MCPAgentSession": "session"}
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    raw: bytes
    manifest: Manifest


class DirectoryStore:
    """The custom resources under `folder`, subfolders included.

    Args:
        clock: seconds since the epoch; for the creation time of what is made here.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder, self._clock = folder, clock

    def servers(self, namespace: str = "") -> Sequence[MCPServer]:
        return [stored.resource for stored in self.objects(MCPServer, namespace)]

    def grants(self, namespace: str = "") -> Sequence[MCPAccessGrant]:
        return [stored.resource for stored in self.objects(MCPAccessGrant, namespace)]

    def sessions(self, namespace: str = "") -> Sequence[MCPAgentSession]:
        return [stored.resource for stored in self.objects(MCPAgentSession, namespace)]

    def objects(self, kind: type[R], namespace: str = "") -> Sequence[Stored[R]]:
        found: dict[tuple[str, str], Stored[R]] = {}
        for file in self._files():
            for placed in file.manifest.objects:
                one = placed.resource
                if isinstance(one, kind):
                    found.setdefault((one.namespace, one.name), _stored(one, placed))
        return [found[key] for key in sorted(found) if namespace in ("", key[0])]

    def get(self, kind: type[R], namespace: str, name: str) -> Stored[R]:
        for found in self.objects(kind, namespace):
            if found.resource.name == name:
                return found
        raise NotFound(
            f"no {kind.__name__} `{namespace}/{name}` in the access folder; look at its list"
        )

    def ping(self) -> None:
        self._paths()

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
                file, before = self._find(kind, key)
                if expected and (before is None or before.version != expected):
                    what = "is gone" if before is None else "was changed"
                    problem = f"{key.kind} `{namespace}/{name}` {what} meanwhile"
                    raise Conflict(f"{problem}; read it again, and decide anew")
                old = before.resource if before else None
                new = self._finished(change(old), old, key)
                if new == old:
                    return Edited(before, before)
                try:
                    return Edited(before, self._write(kind, file, key, old, new, before_write))
                except directory_file.Moved:
                    continue
        raise Retryable(f"`{self._folder}` is being edited all the time; try again")

    def _finished(self, new: Binding | None, old: Binding | None, key: Key) -> Binding | None:
        """What is to be written: sessions have a creation time, which nobody changes."""
        if new is None:
            return None
        if (new.namespace, new.name) != key[1:]:
            problem = f"is not `{key.namespace}/{key.name}`"
            raise Invalid("metadata.name", problem, "make another object of that name")
        if isinstance(new, MCPAgentSession):
            known = old.created_at if isinstance(old, MCPAgentSession) else self._now()
            return replace(new, created_at=known)
        return new

    def _now(self) -> str:
        return format_instant(int(self._clock())).replace(".000", "")

    def _find(self, kind: type[Binding], key: Key) -> tuple[_File | None, Stored[Binding] | None]:
        """The object, and the file that it stands in.

        Raises:
            Invalid: it stands twice, or in a file that is broken.
        """
        found: list[tuple[_File, Placed, Binding]] = []
        for file in self._files():
            there = [
                (file, placed, placed.resource)
                for placed in file.manifest.objects
                if isinstance(placed.resource, kind) and _key(placed.resource) == key
            ]
            if file.manifest.faults and (there or key.name.encode() in file.raw):
                fault = file.manifest.faults[0]
                mend = "mend the file first: it does not count until then"
                raise Invalid("", f"may stand in a broken file ({fault})", mend)
            found += there
        if len(found) > 1:
            files = " and ".join(f"{p.file}:{p.document.line}" for _, p, _ in found)
            raise Invalid("metadata.name", f"stands twice ({files})", "keep one of them")
        if not found:
            return None, None
        file, placed, resource = found[0]
        return file, _stored(resource, placed)

    def _write(
        self,
        kind: type[Binding],
        file: _File | None,
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
            manifest = _checked(raw, (), new, str(self._folder))
            directory_file.create(self._folder, _names(key), raw, still_new)
        else:
            raw = _edited(file, key, old, new)
            manifest = _checked(raw, file.manifest.objects, new, str(file.path), key)
            if raw:
                directory_file.replace(file.path, raw, file.raw, recorded)
            else:
                directory_file.delete(file.path, file.raw, recorded)
        after = [p for p in manifest.objects if _key(p.resource) == key]
        return _stored(new, after[0]) if new is not None else None

    def _new_file(self, new: MCPAccessGrant | MCPAgentSession) -> bytes:
        written = to_object(new)
        written["metadata"].setdefault("creationTimestamp", self._now())
        return new_text(written).encode()

    def _files(self) -> Iterator[_File]:
        for path in self._paths():
            try:
                raw = accessdir.read(path)
            except FileNotFoundError:  # removed since it was listed
                continue
            except OSError as error:
                raise _unreadable(path, error) from error
            yield _File(path, raw, read_manifest(raw, str(path)))

    def _paths(self) -> list[Path]:
        try:
            return accessdir.find(self._folder)
        except OSError as error:
            raise _unreadable(self._folder, error) from error


def _key(resource: Resource) -> Key:
    return Key(type(resource).__name__, resource.namespace, resource.name)


def _stored(resource: R, placed: Placed) -> Stored[R]:
    metadata = placed.document.value.get("metadata", {})
    created_at = metadata.get("creationTimestamp")
    version = digest(canonical(placed.document.value))
    return Stored(resource, version, created_at if isinstance(created_at, str) else "")


def _names(key: Key) -> Iterator[str]:
    """File names for a new object, the one that a person would choose first."""
    kind, name = _FILE_NAMES[key.kind], key.name[:120]
    yield f"{kind}-{name}.yaml"
    longer = f"{kind}-{key.namespace[:60]}-{name}"
    yield f"{longer}.yaml"
    for number in itertools.count(2):
        yield f"{longer}-{number}.yaml"


def _edited(
    file: _File,
    key: Key,
    old: MCPAccessGrant | MCPAgentSession | None,
    new: MCPAccessGrant | MCPAgentSession | None,
) -> bytes:
    """The file with one object changed or cut out; empty where none is left."""
    assert old is not None  # for it stands there
    text = file.raw.decode("utf-8-sig")
    try:
        if new is None:
            text = cut_text(text, key)
        else:
            text = changed_text(text, key, to_object(old), to_object(new))
    except Invalid as error:
        raise Invalid(str(file.path), error.problem, error.mend) from error
    bom = _BOM if text and file.raw.startswith(_BOM) else b""
    return bom + text.encode()


def _checked(
    raw: bytes, before: Sequence[Placed], new: Resource | None, file: str, key: Key | None = None
) -> Manifest:
    """Read what is to be written, before it is.

    Raises:
        Invalid: it is not what it should be.
    """
    manifest = read_manifest(raw, file)
    kept = [placed.resource for placed in before]
    wanted = [new if key and _key(one) == key else one for one in kept] if key else [new]
    found = [placed.resource for placed in manifest.objects]
    if manifest.faults:
        fault = manifest.faults[0]
        raise Invalid(fault.field, f"cannot be written to `{file}`: {fault.problem}", fault.mend)
    if found != [one for one in wanted if one is not None]:
        problem = "cannot be changed without damage to what stands around it"
        raise Invalid(file, problem, "edit it by hand")
    return manifest


def _unreadable(path: Path, error: OSError) -> Retryable:
    return Retryable(f"`{path}` cannot be read ({error.strerror}); make it readable")
