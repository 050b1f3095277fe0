"""What must be recorded, so that the history says what stands in the directory. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from backend.history.folder import Reading, Standing, about
from extauthz.core.governance import Action, Change, Key, server_of
from extauthz.core.history import Recorded
from extauthz.core.writing import Object

ACTOR: Final = "file"  # nobody knows whose editor it was


def differences(
    recorded: Mapping[Key, Recorded], reading: Reading, confirm_before: float
) -> Iterator[Change]:
    """Changes from what was last recorded to what stands there now.

    What was recorded of a file that is broken now still counts, as it does at the decision
    point; an object that stands twice stays as it was, and where a server's objects make no
    policy together, all that is about that server.

    Args:
        recorded: the last change of each object.
        confirm_before: objects that were last told before this time (seconds since the epoch)
            are told again.
    """
    for key in sorted((recorded.keys() | reading.objects.keys()) - reading.unclear):
        last, standing = recorded.get(key), reading.objects.get(key)
        before = last.change.after if last else None
        written = standing.written if standing else before
        if reading.refused and written and about(written) in reading.refused:
            continue
        if standing is None:
            is_kept = last is not None and _may_stand_in(reading.broken, last.change.file)
            if last is not None and not is_kept and last.change.action is not Action.DELETED:
                yield _change(key, Action.DELETED, before, None, last.change)
        elif last is None or last.change.action is Action.DELETED:
            yield _change(key, Action.CREATED, None, standing)
        elif before != standing.written:
            yield _change(key, Action.CHANGED, before, standing)
        elif last.at < confirm_before or last.change.file != standing.file:
            yield _change(key, Action.CONFIRMED, before, standing)


def _may_stand_in(broken: frozenset[str], file: str) -> bool:
    """Of what was recorded without its file, nobody knows: then it may stand in any."""
    return file in broken or bool(broken and not file)


def _change(
    key: Key,
    action: Action,
    before: Object | None,
    standing: Standing | None,
    last: Change | None = None,
) -> Change:
    after = standing.written if standing else None
    return Change(
        key=key,
        action=action,
        actor=ACTOR,
        server=server_of(after) if after else last.server if last else "",
        before=before,
        after=after,
        file=standing.file if standing else "",
        modified_at=standing.modified_at if standing else "",
    )
