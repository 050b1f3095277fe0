"""ServiceAccounts of a cluster, as its API server publishes them."""

import json
from collections.abc import Sequence

from kubernetes import client

from backend.adapters.kubernetes_client import CustomObjects, translated
from extauthz.core.accounts import Claim, named
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid

_SECONDS = (3.0, 15.0)  # to connect, to answer


class KubernetesAccounts:
    """The issuer's metadata and keys (OpenID Connect Discovery), and annotations of MCPServers."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api, self._objects = api, CustomObjects(api)

    def issuer(self) -> str:
        found = self._published("/.well-known/openid-configuration")
        issuer = found.get("issuer") if isinstance(found, dict) else None
        if not isinstance(issuer, str) or not issuer:
            raise Invalid("issuer", "is not published", "set --service-account-issuer there")
        return issuer

    def keys(self) -> object:
        return self._published("/openid/v1/jwks")

    def claims(self) -> Sequence[Claim]:
        found: list[Claim] = []
        following, is_first = "", True
        while following or is_first:
            page = self._objects.page("mcpservers", following=following)
            for each in page["items"]:
                meta = each["metadata"]
                server = ObjectRef(meta["namespace"], meta["name"])
                found.append(Claim(server, named(meta.get("annotations") or {})))
            following, is_first = page["metadata"].get("continue") or "", False
        return found

    def _published(self, path: str) -> object:
        asked = self._api.param_serialize("GET", path, auth_settings=["BearerToken"])
        with translated(f"`{path}`"):
            answer = self._api.call_api(*asked, _request_timeout=_SECONDS)
            raw: bytes = answer.read()  # type: ignore[no-untyped-call]
            if answer.status != 200:
                raise client.ApiException(http_resp=answer, body=raw.decode("utf-8", "replace"))
        try:
            return json.loads(raw)
        except ValueError as error:
            raise Invalid(path, "is not JSON", "ask an API server") from error
