"""One request of the corpus: its bytes, and what must become of it."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extauthz.core.accessdir import find
from extauthz.core.compile import compile_document
from extauthz.core.manifests import read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.policy import Policy
from extauthz.core.render import render
from extauthz.core.request import Request

FOLDER = Path(__file__).parent
ACCESS = FOLDER / "access"
PASSES = "passes"
ALLOWED = frozenset({"allowed", "not_tool_call", "unknown_method"})  # what `passes` stands for


@dataclass(frozen=True, slots=True)
class Case:
    """One request, or several on one connection.

    Args:
        id: unique in the corpus.
        why: what it would lead to, in one line.
        head: request line and headers with the blank line, byte for byte.
        body: what follows.
        expect: per request on the connection: the reason code of the denial, `passes`, or
            Envoy's own refusal as `STATUS reason`.
        alone: false where it means something on a connection only, not to the parser.
        arrives: the body as the server gets it, where framing changes it.
    """

    id: str
    why: str
    head: bytes
    body: bytes = b""
    expect: tuple[str, ...] = (PASSES,)
    alone: bool = True
    arrives: bytes | None = field(default=None)

    @property
    def sent(self) -> bytes:
        return self.head + self.body

    def request(self) -> Request:
        """What the decision point is handed when nothing stands before it."""
        first, *lines = self.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs)
        return Request(
            method,
            path,
            tuple((name, value.encode("latin-1")) for name, value in headers),
            self.body,
            peer="127.0.0.1",
            host=",".join(value for name, value in headers if name == "host"),
        )


def to_json(case: Case) -> dict[str, Any]:
    """As it stands in a file: text where the bytes are text, base64 where they are not."""
    written: dict[str, Any] = {"id": case.id, "why": case.why, "expect": list(case.expect)}
    written["head"] = case.head.decode("latin-1").split("\r\n")[:-2]
    written |= _body("body", case.body)
    if not case.alone:
        written["alone"] = False
    if case.arrives is not None:
        written |= _body("arrives", case.arrives)
    return written


def _body(name: str, value: bytes) -> dict[str, str]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


def _from_json(written: dict[str, Any]) -> Case:
    def body(name: str) -> bytes | None:
        if f"{name}_base64" in written:
            return base64.b64decode(written[f"{name}_base64"])
        return str(written[name]).encode() if name in written else None

    return Case(
        id=written["id"],
        why=written["why"],
        head="\r\n".join([*written["head"], "", ""]).encode("latin-1"),
        body=body("body") or b"",
        expect=tuple(written["expect"]),
        alone=written.get("alone", True),
        arrives=body("arrives"),
    )


def load(pattern: str) -> list[Case]:
    """All cases of the files whose names match, such as `hostile-*`."""
    return list(_load(pattern))


def _load(pattern: str) -> Iterator[Case]:
    for path in sorted(FOLDER.glob(f"{pattern}.json")):
        yield from map(_from_json, json.loads(path.read_text()))


def corpus_policy() -> Policy:
    """The policy in `access/`."""
    manifests = [read_manifest(path.read_bytes(), path.name) for path in find(ACCESS)]
    objects = [placed.resource for manifest in manifests for placed in manifest.objects]
    (server,) = (each for each in objects if isinstance(each, MCPServer))
    grants = [each for each in objects if isinstance(each, MCPAccessGrant)]
    sessions = [each for each in objects if isinstance(each, MCPAgentSession)]
    return compile_document(render(server, grants, sessions, generated_at="2026-01-01T00:00:00Z"))
