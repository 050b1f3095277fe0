"""The ordinary call that every case of the corpus bends, in both eras."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from tests.corpus.case import Case

ERAS: Final = ("legacy", "modern")
VERSIONS: Final = {"legacy": "2025-11-25", "modern": "2026-07-28"}
META: Final = (
    '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    '"io.modelcontextprotocol/clientCapabilities":{}}'
)
# `@` stands for the modern era's _meta.
CALL: Final = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"refund","arguments":{}@}}'
)
ECHO: Final = CALL.replace("refund", "echo")

Headers = Mapping[str, str | list[str] | None]


def text(era: str, template: str = CALL) -> str:
    """The template in an era."""
    return template.replace("@", "," + META if era == "modern" else "")


def swap(template: str, old: str, new: str) -> str:
    """Replace a part that must be there."""
    assert old in template, old
    return template.replace(old, new, 1)


def head(
    era: str,
    body: bytes,
    changes: Headers | None = None,
    *,
    tool: str = "refund",
    line: str = "POST /mcp HTTP/1.1",
) -> bytes:
    """An ordinary head for this body.

    Args:
        tool: what the header Mcp-Name says: the tool that the server would run.
        changes: headers to set, to repeat (a list) or to leave out (None).
    """
    headers: dict[str, str | list[str] | None] = {
        "Host": "server.test",
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "X-MCP-Agent-ID": "corpus-agent",
        "MCP-Protocol-Version": VERSIONS[era],
    }
    if era == "modern":
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
    headers |= {"Content-Length": str(len(body))}
    headers |= changes or {}
    lines = [line]
    for name, value in headers.items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{name}: {each}" for each in values if each is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def both(
    name: str,
    why: str,
    body: str | bytes | Callable[[str], bytes],
    expect: str,
    changes: Headers | None = None,
    *,
    tool: str = "refund",
    eras: Iterable[str] = ERAS,
) -> Iterator[Case]:
    """The same case in each era; a template as in `CALL`, or bytes as they are."""
    for era in eras:
        if callable(body):
            raw = body(era)
        else:
            raw = text(era, body).encode() if isinstance(body, str) else body
        top = head(era, raw, changes, tool=tool)
        yield Case(f"{name}.{era}", why, top, raw, (expect,))
