"""The custom resources of one YAML file, with all that is wrong with it."""

from dataclasses import dataclass
from typing import Any, Final

from extauthz.core.documents import Document, Unreadable, read_documents
from extauthz.core.errors import Invalid
from extauthz.core.fields import nearest
from extauthz.core.model import API_VERSION, Resource
from extauthz.core.resources import parse_object

_GROUP: Final = frozenset({API_VERSION.partition("/")[0]})
_OUR_KINDS: Final = frozenset({"MCPAccessGrant", "MCPAgentSession"})  # others have an MCPServer


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that somebody has to mend in a file.

    Args:
        file: as the person named it, or relative to the folder.
        line: from 1; 0 when unknown.
        field: path of the field (`spec.toolRules[0].decision`); empty for the whole.
        problem, mend: as in `Invalid`.
    """

    file: str
    line: int
    field: str
    problem: str
    mend: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{place}: {self.field}" if self.field else place
        return f"{head}: {self.problem}" + (f"; {self.mend}" if self.mend else "")


@dataclass(frozen=True, slots=True)
class Placed:
    """A custom resource and where it stands."""

    resource: Resource
    file: str
    document: Document

    def fault(self, path: str, problem: str, mend: str = "") -> Fault:
        """A fault in this object, with its line."""
        return Fault(self.file, self.document.line_of(path), path, problem, mend)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one file holds: its objects, and all that is wrong with it."""

    objects: tuple[Placed, ...]
    faults: tuple[Fault, ...]


def read_manifest(raw: bytes, file: str) -> Manifest:
    """Read the custom resources of one file; objects of other API groups are left out.

    Args:
        raw: the file's bytes; UTF-8.
        file: its name, for the faults.
    """
    objects: list[Placed] = []
    faults: list[Fault] = []
    try:
        for document in read_documents(raw):
            try:
                if _is_ours(document.value):
                    objects.append(Placed(parse_object(document.value), file, document))
            except Invalid as error:
                line = document.line_of(error.field)
                faults.append(Fault(file, line, error.field, error.problem, error.mend))
    except Unreadable as error:
        faults.append(Fault(file, error.line, error.field, error.problem, error.mend))
    return Manifest(tuple(objects), tuple(faults))


def _is_ours(value: Any) -> bool:
    """False only for what clearly is another's: a mistyped object must not vanish."""
    if not isinstance(value, dict):
        return True
    version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return True
    group = version.partition("/")[0]
    return bool(nearest(group, _GROUP, 0.7) or nearest(kind, _OUR_KINDS, 0.85))
