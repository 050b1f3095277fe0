"""AccessStore over a folder of YAML: what a person edits on one machine.

Every call reads the folder anew: it is small, and an edit shows at once. An object
that does not validate is left out; the decision point's status names its fault.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import orjson

from backend.ports.access_store import R, Stored
from extauthz.core import accessdir
from extauthz.core.errors import NotFound, Retryable
from extauthz.core.manifests import read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.writing import to_object


class DirectoryStore:
    """Reads the custom resources under `folder`, subfolders included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def servers(self, namespace: str = "") -> Sequence[MCPServer]:
        return self._list(MCPServer, namespace)

    def grants(self, namespace: str = "") -> Sequence[MCPAccessGrant]:
        return self._list(MCPAccessGrant, namespace)

    def sessions(self, namespace: str = "") -> Sequence[MCPAgentSession]:
        return self._list(MCPAgentSession, namespace)

    def objects(self, kind: type[R], namespace: str = "") -> Sequence[Stored[R]]:
        return [_stored(one) for one in self._list(kind, namespace)]

    def get(self, kind: type[R], namespace: str, name: str) -> Stored[R]:
        for found in self._list(kind, namespace):
            if found.name == name:
                return _stored(found)
        raise NotFound(
            f"no {kind.__name__} `{namespace}/{name}` in the access folder; look at its list"
        )

    def ping(self) -> None:
        self._files()

    def _list(self, kind: type[R], namespace: str) -> list[R]:
        found: dict[tuple[str, str], R] = {}
        for path in self._files():
            try:
                manifest = read_manifest(accessdir.read(path), str(path))
            except FileNotFoundError:  # removed since it was listed
                continue
            except OSError as error:
                raise _unreadable(path, error) from error
            for placed in manifest.objects:
                if isinstance(placed.resource, kind):
                    one = placed.resource
                    found.setdefault((one.namespace, one.name), one)
        return [found[key] for key in sorted(found) if namespace in ("", key[0])]

    def _files(self) -> list[Path]:
        try:
            return accessdir.find(self._folder)
        except OSError as error:
            raise _unreadable(self._folder, error) from error


def _stored(resource: R) -> Stored[R]:
    version = hashlib.sha256(orjson.dumps(to_object(resource))).hexdigest()
    created_at = resource.created_at if isinstance(resource, MCPAgentSession) else ""
    return Stored(resource, version, created_at)


def _unreadable(path: Path, error: OSError) -> Retryable:
    return Retryable(f"`{path}` cannot be read ({error.strerror}); make it readable")
