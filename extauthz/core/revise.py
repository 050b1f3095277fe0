"""A compiled policy that takes changes: one grant among a hundred thousand costs milliseconds."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from extauthz.core.bindings import compile_grants, compile_sessions, reference
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.policy import Grant, Policy, Session, SubjectGrants, SubjectKey, order
from extauthz.core.revision import combine_sorted, object_digest

_DIGEST_BYTES = 32
_KINDS = ("grant", "session")
_Key = tuple[str, str, str]  # kind, namespace, name


class _Sorted(Sequence[bytes]):
    """Digests in order, joined: a hundred thousand are hashed in a millisecond or two."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        self.joined = bytearray(b"".join(sorted(digests)))

    def __len__(self) -> int:
        return len(self.joined) // _DIGEST_BYTES

    def __getitem__(self, index: Any) -> Any:
        return bytes(self.joined[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES])

    def add(self, digest: bytes) -> None:
        place = bisect_left(self, digest) * _DIGEST_BYTES
        self.joined[place:place] = digest

    def remove(self, digest: bytes) -> None:
        place = bisect_left(self, digest) * _DIGEST_BYTES
        del self.joined[place : place + _DIGEST_BYTES]


class Revised:
    """A policy, and what is needed to change it.

    Args:
        document: a policy document; it is not kept.

    Attributes:
        policy: after the last change; each is a value of its own.

    Raises:
        Invalid: as `compile_document`.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.policy = compile_document(document)
        self._rest = {name: value for name, value in document.items() if name[:-1] not in _KINDS}
        self._digests = self._digests_of(document)
        self._sorted = _Sorted(self._digests.values())
        self._subjects: dict[tuple[str, str], SubjectKey] = {
            order(grant): subject
            for subject, found in self.policy.grants.items()
            for grant in found.grants
        }

    def change(
        self,
        *,
        grants: Iterable[Mapping[str, Any]] = (),
        sessions: Iterable[Mapping[str, Any]] = (),
        gone_grants: Iterable[ObjectRef] = (),
        gone_sessions: Iterable[ObjectRef] = (),
    ) -> Policy:
        """Put or replace grants and sessions, as rendered; take others away.

        Returns:
            What compiling the changed document would give.

        Raises:
            Invalid: with the path within what was given; then nothing has changed.
        """
        put = {"grants": [*grants], "sessions": [*sessions]}
        root, namespace = Fields(put, "$"), self.policy.facts.namespace
        new_grants, new_sessions = (
            compile_grants(root, namespace),
            compile_sessions(root, namespace),
        )
        digests = self._digests_of(put)
        gone: set[_Key] = {("grant", ref.namespace, ref.name) for ref in gone_grants}
        gone |= {("session", ref.namespace, ref.name) for ref in gone_sessions}
        gone |= digests.keys()
        self._check_names(new_sessions, gone)
        for key in gone & self._digests.keys():
            self._sorted.remove(self._digests.pop(key))
        for digest in digests.values():
            self._sorted.add(digest)
        self._digests |= digests
        revision = combine_sorted(self._sorted.joined, self._rest)
        self.policy = replace(
            self.policy,
            facts=replace(self.policy.facts, revision=revision),
            grants=self._change_grants(new_grants, gone),
            sessions=self._change_sessions(new_sessions, gone),
        )
        return self.policy

    def _check_names(self, new: Mapping[str, Session], gone: set[_Key]) -> None:
        """Refuse a session that would stand in the place of another one."""
        for name, session in new.items():
            known = self.policy.sessions.get(name)
            if known is None or known.ref == session.ref:
                continue
            if ("session", known.ref.namespace, known.ref.name) not in gone:
                raise Invalid("$.sessions", f"second session `{name}`", "keep one of them")

    def _digests_of(self, document: Mapping[str, Any]) -> dict[_Key, bytes]:
        found: dict[_Key, bytes] = {}
        for kind in _KINDS:
            for value in document.get(f"{kind}s") or ():
                ref = reference(Fields(value), self.policy.facts.namespace)
                found[kind, ref.namespace, ref.name] = object_digest(kind, value)
        return found

    def _change_grants(
        self, new: Mapping[SubjectKey, SubjectGrants], gone: Iterable[_Key]
    ) -> dict[SubjectKey, SubjectGrants]:
        changed: dict[SubjectKey, list[Grant]] = {}
        index = dict(self.policy.grants)

        def grants_of(subject: SubjectKey) -> list[Grant]:
            if subject not in changed:
                changed[subject] = [*index[subject].grants] if subject in index else []
            return changed[subject]

        for kind, *place in gone:
            subject = self._subjects.pop((place[0], place[1]), None) if kind == "grant" else None
            if subject:
                left = grants_of(subject)
                left[:] = [grant for grant in left if [*order(grant)] != place]
        for subject, found in new.items():
            grants_of(subject).extend(found.grants)
            self._subjects |= {order(grant): subject for grant in found.grants}
        for subject, grants in changed.items():
            if grants:
                index[subject] = SubjectGrants(tuple(sorted(grants, key=order)))
            else:
                index.pop(subject, None)
        return index

    def _change_sessions(self, new: Mapping[str, Session], gone: set[_Key]) -> dict[str, Session]:
        lost = {key for key in gone if key[0] == "session"}
        index = dict(self.policy.sessions)
        for _, namespace, name in lost:
            for rendered in (name, f"{namespace}/{name}"):
                if rendered in index and index[rendered].ref == ObjectRef(namespace, name):
                    del index[rendered]
        index.update(new)
        return index
