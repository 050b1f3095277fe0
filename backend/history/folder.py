"""What stands in an access directory now, read as the decision point reads it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extauthz.core import accessreader
from extauthz.core.accessdir import SETTLE_SECONDS
from extauthz.core.accessreader import AccessReader
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid, Retryable
from extauthz.core.governance import Key
from extauthz.core.manifests import Placed
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.render import render
from extauthz.core.times import format_instant
from extauthz.core.writing import Object, to_object

_SOME_TIME: Final = "1970-01-01T00:00:00Z"


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
        unclear: objects that stand there twice, and of which it is not known what counts.
        refused: servers whose objects together make no policy: nothing about them counts.
    """

    objects: Mapping[Key, Standing]
    broken: frozenset[str]
    unclear: frozenset[Key]
    refused: frozenset[ObjectRef]


class Folder:
    """Reads what changed since it last did. Blocking.

    Args:
        settle_seconds: how long a change must stand before it counts.
    """

    def __init__(self, path: Path, settle_seconds: float = SETTLE_SECONDS) -> None:
        self.path = path
        self._reader = AccessReader(path, keep=_written, settle_seconds=settle_seconds)
        self._checked: Sequence[accessreader.Standing[Object]] = ()
        self._refused: frozenset[ObjectRef] = frozenset()
        self._counted: Mapping[Key, Standing] = {}

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
        objects = {each.key: self._standing(reading, each) for each in reading.objects}
        broken = frozenset(
            str(path.relative_to(self.path))
            for path, file in reading.files.items()
            if file.faults or file.is_blank
        )
        if reading.objects is not self._checked:
            self._refused = frozenset(_refused([each.resource for each in reading.objects]))
            self._checked = reading.objects
        self._counted = objects
        return Reading(objects, broken, reading.unclear, self._refused)

    def _standing(
        self, reading: accessreader.Reading[Object], each: accessreader.Standing[Object]
    ) -> Standing:
        if each.key in reading.duplicates and each.key in self._counted:
            return self._counted[each.key]  # as it last counted, whatever its file is now
        modified_at = format_instant(reading.files[self.path / each.file].modified_at)
        return Standing(each.kept, each.file, modified_at)


def about(written: Object) -> ObjectRef:
    """The server that an object is about."""
    named = written["metadata"] if written["kind"] == "MCPServer" else written["spec"]["serverRef"]
    return ObjectRef(str(named["namespace"]), str(named["name"]))


def _refused(resources: Sequence[Resource]) -> Iterator[ObjectRef]:
    """Servers that the decision point would refuse the policy of."""
    grants = [each for each in resources if isinstance(each, MCPAccessGrant)]
    sessions = [each for each in resources if isinstance(each, MCPAgentSession)]
    for server in resources:
        if isinstance(server, MCPServer):
            try:
                compile_document(render(server, grants, sessions, generated_at=_SOME_TIME))
            except Invalid:
                yield ObjectRef(server.namespace, server.name)


def _written(placed: Placed) -> Object:
    return to_object(placed.resource)
