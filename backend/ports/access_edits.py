"""What every access store asks of an edit before it writes. Pure."""

from dataclasses import replace

from backend.ports.access_store import Binding, Stored
from extauthz.core.admission import check_write
from extauthz.core.errors import Conflict, Invalid
from extauthz.core.governance import Key
from extauthz.core.model import MCPAgentSession
from extauthz.core.times import format_second


def require_version(key: Key, before: Stored[Binding] | None, expected: str) -> None:
    """Refuse an edit of what is not there any more.

    Args:
        expected: the version that the object must still have; empty for any.

    Raises:
        Conflict: it has another, or is gone.
    """
    if expected and (before is None or before.version != expected):
        what = "is gone" if before is None else "was changed"
        problem = f"{key.kind} `{key.namespace}/{key.name}` {what} meanwhile"
        raise Conflict(f"{problem}; read it again, and decide anew")


def prepare(new: Binding | None, old: Binding | None, key: Key, now: float) -> Binding | None:
    """What is to be written; None is no object. Equal to `old`: nothing is.

    When a session was made is not the writer's to say.

    Args:
        now: seconds since the epoch.

    Raises:
        Invalid: it cannot be written.
    """
    if new is None:
        return None
    if (new.namespace, new.name) != key[1:]:
        problem = f"is not `{key.namespace}/{key.name}`"
        raise Invalid("metadata.name", problem, "make another object of that name")
    if isinstance(new, MCPAgentSession):
        known = old.created_at if isinstance(old, MCPAgentSession) else format_second(now)
        new = replace(new, created_at=known)
    if new != old:
        check_write(old, new)
    return new
