"""UUIDs that can be read: each stands for a short name."""

from uuid import UUID


def id_of(name: str) -> str:
    """The UUID of a name of at most 16 bytes."""
    return str(UUID(bytes=name.encode().ljust(16, b"\0")))


def name_of(event_id: str) -> str:
    """The name that `id_of` was given."""
    return UUID(event_id).bytes.rstrip(b"\0").decode()
