"""A compiled policy that takes changes: one grant among a hundred thousand costs milliseconds."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from extauthz.core.bindings import compile_grants, compile_sessions, reference
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.layered import changed
from extauthz.core.policy import Grant, Policy, Session, SubjectGrants, SubjectKey, order
from extauthz.core.revision import SortedDigests, combine_sorted, object_digest

_KINDS = ("grant", "session")
_BESIDE = frozenset({"grants", "sessions", "content_digest", "revision"})
ObjectKey = tuple[str, str, str]
"""kind (`grant`, `session`), namespace, name"""


def rest_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a document holds beside grants and sessions, and the digests of all of it."""
    return {name: value for name, value in document.items() if name not in _BESIDE}


def digests_of(document: Mapping[str, Any], namespace: str) -> dict[ObjectKey, bytes]:
    """The digests of a document's grants and sessions; `namespace`: of their server."""
    found: dict[ObjectKey, bytes] = {}
    for kind in _KINDS:
        for value in document.get(f"{kind}s") or ():
            ref = reference(Fields(value), namespace)
            found[kind, ref.namespace, ref.name] = object_digest(kind, value)
    return found


def subjects_of(
    index: Iterable[tuple[SubjectKey, SubjectGrants]],
) -> dict[tuple[str, str], SubjectKey]:
    """Who each grant is for, by namespace and name."""
    return {order(grant): subject for subject, found in index for grant in found.grants}


class IncrementalPolicy:
    """A policy, and what is needed to change it.

    Args:
        policy: compiled.
        rest: the members of its document, without grants and sessions.
        digests: those of its grants and sessions; kept, and changed.
        joined: the same, sorted and joined, where that has been done.
        subjects: who each grant is for, by namespace and name; likewise.

    Attributes:
        policy: after the last change; each is a value of its own.
    """

    def __init__(
        self,
        policy: Policy,
        rest: Mapping[str, Any],
        digests: dict[ObjectKey, bytes],
        joined: bytes = b"",
        subjects: dict[tuple[str, str], SubjectKey] | None = None,
    ) -> None:
        self.policy, self.rest, self.digests = policy, rest, digests
        self._sorted = SortedDigests(() if joined else digests.values())
        self._sorted.joined += joined
        self._subjects = subjects_of(policy.grants.items()) if subjects is None else subjects

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "IncrementalPolicy":
        """Compile a document; it is not kept.

        Raises:
            Invalid: as `compile_document`.
        """
        policy = compile_document(document)
        return cls(policy, rest_of(document), digests_of(document, policy.facts.namespace))

    @property
    def joined(self) -> bytes:
        """The digests, sorted and joined."""
        return bytes(self._sorted.joined)

    def change(
        self,
        *,
        head: Mapping[str, Any] | None = None,
        grants: Iterable[Mapping[str, Any]] = (),
        sessions: Iterable[Mapping[str, Any]] = (),
        gone_grants: Iterable[ObjectRef] = (),
        gone_sessions: Iterable[ObjectRef] = (),
        revision: str = "",
    ) -> Policy:
        """Put or replace grants and sessions, as rendered; take others away.

        Args:
            head: what the document holds beside them from now on; None: the same.
            revision: what the changed document must have; empty: any.

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
        policy, rest = self._head(head)
        digests = digests_of(put, namespace)
        gone: set[ObjectKey] = {("grant", ref.namespace, ref.name) for ref in gone_grants}
        gone |= {("session", ref.namespace, ref.name) for ref in gone_sessions}
        gone |= digests.keys()
        self._check_names(new_sessions, gone)
        found = self._swap(gone, digests, rest, revision)
        self.rest = rest
        self.policy = replace(
            policy,
            facts=replace(policy.facts, revision=found),
            grants=self._change_grants(new_grants, gone),
            sessions=self._change_sessions(new_sessions, gone),
        )
        return self.policy

    def _head(self, head: Mapping[str, Any] | None) -> tuple[Policy, Mapping[str, Any]]:
        """The policy without grants and sessions of its own, and the members beside them."""
        if head is None:
            return self.policy, self.rest
        rest = rest_of(head)
        policy, before = compile_document(rest), self.policy.facts
        if (policy.facts.namespace, policy.facts.server) != (before.namespace, before.server):
            raise Invalid("$.server", "names another server", "send that one's whole document")
        return policy, rest

    def _swap(
        self,
        gone: Iterable[ObjectKey],
        digests: Mapping[ObjectKey, bytes],
        rest: Mapping[str, Any],
        revision: str,
    ) -> str:
        """Change the digests; the revision that comes of it."""
        lost = {key: self.digests[key] for key in gone if key in self.digests}
        self._sort(lost, digests)
        found = combine_sorted(self._sorted.joined, rest)
        if revision and found != revision:
            self._sort(digests, lost)
            mend = "send the whole document"
            raise Invalid("$", f"the change leads to `{found}`, not to `{revision}`", mend)
        for key in lost:
            del self.digests[key]
        self.digests.update(digests)
        return found

    def _sort(self, lost: Mapping[ObjectKey, bytes], new: Mapping[ObjectKey, bytes]) -> None:
        for digest in lost.values():
            self._sorted.remove(digest)
        for digest in new.values():
            self._sorted.add(digest)

    def _check_names(self, new: Mapping[str, Session], gone: set[ObjectKey]) -> None:
        """Refuse a session that would stand in the place of another one."""
        for name, session in new.items():
            known = self.policy.sessions.get(name)
            if known is None or known.ref == session.ref:
                continue
            if ("session", known.ref.namespace, known.ref.name) not in gone:
                raise Invalid("$.sessions", f"second session `{name}`", "keep one of them")

    def _change_grants(
        self, new: Mapping[SubjectKey, SubjectGrants], gone: Iterable[ObjectKey]
    ) -> Mapping[SubjectKey, SubjectGrants]:
        lists: dict[SubjectKey, list[Grant]] = {}
        index = self.policy.grants

        def grants_of(subject: SubjectKey) -> list[Grant]:
            if subject not in lists:
                held = index.get(subject)
                lists[subject] = [*held.grants] if held else []
            return lists[subject]

        for kind, *place in gone:
            subject = self._subjects.pop((place[0], place[1]), None) if kind == "grant" else None
            if subject:
                left = grants_of(subject)
                left[:] = [grant for grant in left if [*order(grant)] != place]
        for subject, found in new.items():
            grants_of(subject).extend(found.grants)
            self._subjects |= {order(grant): subject for grant in found.grants}
        return changed(
            index,
            {
                subject: SubjectGrants(tuple(sorted(grants, key=order))) if grants else None
                for subject, grants in lists.items()
            },
        )

    def _change_sessions(
        self, new: Mapping[str, Session], gone: set[ObjectKey]
    ) -> Mapping[str, Session]:
        changes: dict[str, Session | None] = {}
        for kind, namespace, name in gone:
            for rendered in (name, f"{namespace}/{name}") if kind == "session" else ():
                held = self.policy.sessions.get(rendered)
                if held and held.ref == ObjectRef(namespace, name):
                    changes[rendered] = None
        return changed(self.policy.sessions, changes | dict(new))
