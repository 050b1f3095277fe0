"""What is wrong, or hardly meant so, with custom resources that each can be read by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from backend.cli.access import Access
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.findings import findings
from extauthz.core.manifests import Fault, Placed
from extauthz.core.model import MCPServer


@dataclass(frozen=True, slots=True)
class Findings:
    """Errors stop a policy from running; warnings say what has no effect or too much."""

    errors: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def lint(access: Access, now: float, *, is_folder: bool) -> Findings:
    """Check objects against each other.

    Args:
        access: what was read.
        now: seconds since the epoch, for what has expired.
        is_folder: a single file without a server may belong to one elsewhere.
    """
    errors = [*access.faults, *_duplicates(access)]
    if not errors:
        errors += _undocumentable(access, now)
    warnings: list[Fault] = []
    servers = {ObjectRef(server.namespace, server.name): server for server in access.servers}
    for placed in access.objects:
        resource = placed.resource
        if isinstance(resource, MCPServer):
            continue
        known = servers if is_folder or servers else None
        warnings += [
            placed.fault(found.field, found.problem, found.mend)
            for found in findings(resource, known, now)
        ]
    return Findings(tuple(errors), tuple(warnings))


def _duplicates(access: Access) -> Iterator[Fault]:
    seen: dict[tuple[str, str, str], Placed] = {}
    for placed in access.objects:
        resource = placed.resource
        key = (type(resource).__name__, resource.namespace, resource.name)
        if first := seen.setdefault(key, placed):
            if first is placed:
                continue
            kind, name = key[0], f"{resource.namespace}/{resource.name}"
            where = f"{first.file}:{first.document.line}"
            problem = f"second {kind} `{name}`, the first is at {where}"
            yield placed.fault("metadata.name", problem, "keep one of them")


def _undocumentable(access: Access, now: float) -> Iterator[Fault]:
    """Servers whose objects together make no document that a sidecar would run."""
    for placed in access.objects:
        if isinstance(placed.resource, MCPServer):
            try:
                compile_document(access.document(placed.resource, now))
            except Invalid as error:
                yield placed.fault(error.field, error.problem, error.mend)
