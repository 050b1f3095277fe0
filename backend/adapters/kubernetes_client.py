"""Custom resources at an API server: how it is found, what is asked, its errors as ours."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import urllib3
from kubernetes import client, config
from kubernetes.config import KUBE_CONFIG_DEFAULT_LOCATION, ConfigException

from extauthz.core.errors import Conflict, Invalid, NotFound, Retryable
from extauthz.core.governance import Key
from extauthz.core.model import API_VERSION

Raw = dict[str, Any]

BOUNDED: Final[dict[str, Any]] = {"_request_timeout": (3.0, 15.0)}  # to connect, to answer
_GROUP: Final[tuple[str, str]] = (API_VERSION.partition("/")[0], API_VERSION.partition("/")[2])
_IN_POD: Final = "KUBERNETES_SERVICE_HOST"  # set in every pod
# Who writes, as the API server keeps it: what the api writes it has recorded itself.
API_MANAGER: Final = "mcp-sentinel"


def new_client(context: str = "", kubeconfig: str = "") -> client.ApiClient:
    """A client by the kubeconfig (`KUBECONFIG`, or kubectl's own), in a pod by its account.

    Args:
        context: of the kubeconfig; empty for its current one.
        kubeconfig: a file instead.

    Raises:
        Invalid: there is no such file or context, and no other credential.
    """
    made = client.Configuration()
    made.retries = False  # who asks decides whether to ask again
    try:
        # The library reads the variable once, when it is imported.
        named = kubeconfig or os.environ.get("KUBECONFIG")
        if os.environ.get(_IN_POD) and not named and not context:
            config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
        else:
            file = named or KUBE_CONFIG_DEFAULT_LOCATION
            which = {"config_file": file, "context": context or None}
            config.load_kube_config(client_configuration=made, **which)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        mend = "set KUBECONFIG, or name a context that is in it"
        raise Invalid("kubeconfig", f"finds no cluster: {error}", mend) from error
    return client.ApiClient(made)


class CustomObjects:
    """The objects of our group, as they are there. Raises, everywhere: as `translated`.

    What writes does all but that where it is `rehearsed`: rights, rules and policies are asked.

    Args:
        page_size: objects that one answer holds at most.
        manager: by whose name writes are kept (`metadata.managedFields`).
    """

    def __init__(
        self, api: client.ApiClient, *, page_size: int = 500, manager: str = API_MANAGER
    ) -> None:
        self._api, self._page_size = client.CustomObjectsApi(api), page_size
        self._writing = {"field_manager": manager, "field_validation": "Strict"}

    def page(self, plural: str, namespace: str = "", following: str = "") -> Raw:
        """A list from `following` on (empty: the beginning); a blank namespace means all."""
        options: dict[str, Any] = {"limit": self._page_size, "_continue": following or None}
        options |= BOUNDED
        with translated(f"`{plural}`"):
            if namespace:
                place = (*_GROUP, namespace, plural)
                return _raw(self._api.list_namespaced_custom_object(*place, **options))
            return _raw(self._api.list_cluster_custom_object(*_GROUP, plural, **options))

    def get(self, plural: str, key: Key) -> Raw:
        with translated(named(key)):
            place = (*_GROUP, key.namespace, plural, key.name)
            return _raw(self._api.get_namespaced_custom_object(*place, **BOUNDED))

    def create(self, plural: str, key: Key, body: Raw, *, rehearsed: bool) -> Raw:
        with translated(named(key)):
            place = (*_GROUP, key.namespace, plural, body)
            options = self._writing | BOUNDED | _dry(rehearsed)
            return _raw(self._api.create_namespaced_custom_object(*place, **options))

    def patch(self, plural: str, key: Key, body: Raw, *, rehearsed: bool) -> Raw:
        """By RFC 7386. A `metadata.resourceVersion` in it must still be the object's."""
        with translated(named(key)):
            place = (*_GROUP, key.namespace, plural, key.name, body)
            options: dict[str, Any] = {"_content_type": "application/merge-patch+json"}
            options |= self._writing | BOUNDED | _dry(rehearsed)
            return _raw(self._api.patch_namespaced_custom_object(*place, **options))

    def delete(self, plural: str, key: Key, uid: str, version: str, *, rehearsed: bool) -> None:
        """Delete just that one, as it was read."""
        seen = client.V1Preconditions(uid=uid, resource_version=version)
        # With a body, the API server takes no notice of a query's dryRun.
        dry_run = ["All"] if rehearsed else None
        body = client.V1DeleteOptions(preconditions=seen, dry_run=dry_run)
        with translated(named(key)):
            place = (*_GROUP, key.namespace, plural, key.name)
            self._api.delete_namespaced_custom_object(*place, body=body, **BOUNDED)


def named(key: Key) -> str:
    """The object, in an error."""
    return f"{key.kind} `{key.namespace}/{key.name}`"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the client as ours.

    Args:
        what: is asked for, like `MCPServer mcp-servers/shop`.

    Raises:
        NotFound, Conflict, Invalid, Retryable: as the API server means it.
    """
    try:
        yield
    except client.ApiException as error:
        raise _meant(error, what) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Retryable(f"the API server does not answer ({type(error).__name__})") from error


def _meant(error: client.ApiException, what: str) -> Exception:
    status = _status(error.body)
    message = str(status.get("message") or error.reason)
    if error.status == 404:
        return _absent(status, what)
    if error.status == 409:
        return Conflict(f"{what} was changed meanwhile; read it again, and decide anew")
    if error.status in {400, 422}:
        return _invalid(status, message)
    if error.status == 401:
        mend = "sign in again, or name another kubeconfig or context"
        return Retryable(f"the API server does not know this account: {message}; {mend}")
    if error.status == 403:
        mend = "grant it the role that has this verb (docs/kubernetes.md)"
        return Retryable(f"the API server refuses this account: {message}; {mend}")
    return Retryable(f"the API server answers {error.status}: {message}")


def _absent(status: dict[str, Any], what: str) -> Exception:
    """Whether it is the kind that is not there, the namespace, or the object."""
    missing = status.get("details") or {}
    if not missing.get("name"):
        mend = "install them: `kubectl apply -f k8s/crds`"
        return Retryable(f"this cluster does not know the custom resources ({what}); {mend}")
    if missing.get("kind") == "namespaces":
        name = missing["name"]
        return NotFound(f"no namespace `{name}`; make it: `kubectl create namespace {name}`")
    return NotFound(f"no {what}; look at `kubectl get mcp --all-namespaces`")


def _invalid(status: dict[str, Any], message: str) -> Invalid:
    """By its first cause: `Invalid value: "object": problem; mend`."""
    causes = (status.get("details") or {}).get("causes") or [{}]
    field, text = str(causes[0].get("field") or ""), str(causes[0].get("message") or message)
    if text.startswith("Invalid value: ") and '": ' in text:
        text = text.partition('": ')[2]
    problem, _, mend = text.partition("; ")
    return Invalid(field, problem, mend)


def _status(body: str | None) -> dict[str, Any]:
    try:
        found = json.loads(body or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _dry(rehearsed: bool) -> dict[str, Any]:
    return {"dry_run": "All"} if rehearsed else {}


def _raw(answer: object) -> Raw:
    assert isinstance(answer, dict)
    return answer
