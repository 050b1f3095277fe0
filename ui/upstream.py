"""The api, as the dashboard asks it: always with the credential of whoever looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter

CONNECTIONS: Final = 32  # kept open; more are opened where threads need them
CONNECT_SECONDS: Final = 3.0


class Unreachable(Exception):
    """The api did not answer. The message says why, without an address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the api said.

    Args:
        body: parsed JSON; None where there is none.
        version: of the object in it, for `If-Match`; empty for none.
    """

    status: int
    body: Any
    version: str = ""

    @property
    def ok(self) -> bool:
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def problem(self) -> str:
        """What is wrong, for people; empty where nothing is."""
        if self.ok:
            return ""
        told = self.body if isinstance(self.body, dict) else {}
        return str(told.get("detail") or told.get("message") or f"the api answered {self.status}")

    @property
    def field(self) -> str:
        """The field that a problem is about; empty where it names none."""
        return str(self.body.get("field", "")) if isinstance(self.body, dict) else ""


class Api:
    """A client of the api; threads may share it.

    Args:
        url: of the api, without a path.
        seconds: that it may be silent.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self._seconds = url, seconds
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy, no .netrc: credentials are the caller's
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS)
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)

    def call(
        self,
        method: str,
        path: str,
        credential: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for JSON. Raises: Unreachable."""
        sent = {"Authorization": f"Bearer {credential}", "Accept": "application/json"}
        response = self.forward(method, path, sent | dict(headers or {}), params=params, json=json)
        with response:
            try:
                body = response.json()
            except requests.exceptions.JSONDecodeError:
                body = None
        return Answer(response.status_code, body, response.headers.get("ETag", ""))

    def forward(
        self, method: str, path: str, headers: Mapping[str, str], **more: Any
    ) -> requests.Response:
        """Send a request as it is, and give the answer unread. Raises: Unreachable."""
        try:
            return self._http.request(
                method,
                self.url + path,
                headers=dict(headers),
                timeout=(CONNECT_SECONDS, self._seconds),
                allow_redirects=False,
                stream=True,
                **more,
            )
        except requests.Timeout as error:
            raise Unreachable("the api does not answer in time") from error
        except requests.RequestException as error:
            raise Unreachable("the api is away") from error
