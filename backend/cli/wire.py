"""Grants and sessions in mcp-runtime's form, as manifests, and read from files of either."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from backend.access_forms import grant_form, session_form
from backend.cli.console import Failure, printable, stderr
from backend.cli.objects import KINDS, Kind, Wire
from backend.ports.access_store import Stored
from extauthz.core.documents import Document, Unreadable, read_documents
from extauthz.core.errors import Invalid
from extauthz.core.manifests import Fault
from extauthz.core.model import API_VERSION, Binding, MCPAccessGrant, MCPServer
from extauthz.core.resources import parse_object
from extauthz.core.writing import Object, to_object

_METADATA: Final = ("name", "namespace")
_TOLD: Final = frozenset({*_METADATA, "age"})  # members of the wire form that are not the spec's


@dataclass(frozen=True, slots=True)
class Written:
    """An object as somebody wrote it.

    Args:
        keeps: it says nothing of being out of force, so that what is there stays.
    """

    item: Binding
    keeps: bool


def to_wire(item: Binding, created_at: str = "") -> Wire:
    """The form that the api sends."""
    if isinstance(item, MCPAccessGrant):
        form: Any = grant_form(Stored(item, "", created_at))
    else:
        form = session_form(Stored(item, "", created_at))
    wire: Wire = msgspec.to_builtins(form)
    return wire


def to_manifest(kind: Kind, wire: Wire) -> Object:
    """The custom resource, as somebody would write it.

    Raises:
        Invalid: an api sent what is none.
    """
    return to_object(parse_object(_custom_resource(kind, wire)))


def read_file(kind: Kind, path: str, raw: bytes) -> list[Written]:
    """The objects of a file: custom resources, or what `get` prints; YAML or JSON.

    Raises:
        Failure: anything is wrong with any of them; each fault is told first.
    """
    found: list[Written] = []
    faults: list[Fault] = []
    try:
        for document in read_documents(raw):
            try:
                found.append(_read(kind, document.value))
            except Invalid as error:
                faults.append(_fault(path, document, error))
    except Unreadable as error:
        faults.append(Fault(path, error.line, error.field, error.problem, error.mend))
    for fault in faults:
        stderr().print(printable(str(fault)), markup=False, soft_wrap=True)
    if faults:
        raise Failure(f"nothing was applied; mend what is wrong with `{path}`")
    if not found:
        raise Failure(f"`{path}` holds no {kind.noun}; name a file that does")
    return found


def _read(kind: Kind, value: Any) -> Written:
    if isinstance(value, dict) and not {"apiVersion", "kind"} & value.keys():
        value = _custom_resource(kind, value)
    item = parse_object(value)
    if not isinstance(item, kind.resource):
        raise Invalid("kind", f"`{type(item).__name__}` is not for this command", _mend(item))
    return Written(item, keeps=kind.flag not in (value.get("spec") or {}))


def _mend(item: Any) -> str:
    if isinstance(item, MCPServer):
        return "take it out; servers are mcp-runtime's, or stand in the access directory"
    noun = next(kind.noun for kind in KINDS if isinstance(item, kind.resource))
    return f"use `access {noun} apply`"


def _custom_resource(kind: Kind, wire: Wire) -> Object:
    head = {"apiVersion": API_VERSION, "kind": kind.resource.__name__}
    metadata = {name: wire[name] for name in _METADATA if name in wire}
    spec = {name: value for name, value in wire.items() if name not in _TOLD}
    return head | {"metadata": metadata, "spec": spec}


def _fault(path: str, document: Document, error: Invalid) -> Fault:
    """Its line is that of the member, in whichever of the two forms it stands."""
    short = error.field.removeprefix("spec.").removeprefix("metadata.")
    at = error.field if error.field in document.lines else short
    return Fault(path, document.line_of(at), error.field, error.problem, error.mend)
