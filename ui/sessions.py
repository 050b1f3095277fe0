"""Sessions as encrypted cookies: browsers carry them and cannot read them.

A session holds the api credential of who signed in, so nothing is kept on the server, and any
replica answers anybody.
"""

import base64
import hashlib
import zlib
from collections.abc import Sequence
from typing import Any, Final

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import Flask, Request, Response
from flask.sessions import SecureCookieSession, SessionInterface

COOKIE: Final = "mcp_ui_session"
MOST_COOKIE_BYTES: Final = 3800  # browsers drop cookies beyond 4 KiB, name and attributes included


class Sealer:
    """Encrypts small values, and reads them for a while.

    Args:
        keys: the first one encrypts, all decrypt; any text that cannot be guessed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(_derive(key)) for key in keys])

    def seal(self, value: Any) -> str:
        """JSON in, text for a cookie out."""
        return self._fernet.encrypt(zlib.compress(orjson.dumps(value))).decode()

    def unseal(self, text: str, seconds: float) -> Any:
        """What was sealed within the last `seconds`; None for anything else."""
        try:
            return orjson.loads(zlib.decompress(self._fernet.decrypt(text, ttl=int(seconds))))
        except (InvalidToken, zlib.error, ValueError):
            return None


def _derive(key: str) -> bytes:
    return base64.urlsafe_b64encode(hashlib.sha256(b"mcp-sentinel-ui " + key.encode()).digest())


class Sessions(SessionInterface):
    """Flask's sessions, sealed. One that was not changed keeps its age.

    Args:
        sealer: of this installation.
        seconds: that a session lasts from its last change.
        is_secure: whether cookies go over https alone.
    """

    def __init__(self, sealer: Sealer, seconds: float, *, is_secure: bool) -> None:
        self._sealer, self._seconds, self._is_secure = sealer, seconds, is_secure

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession:
        """The session of a request; an empty one where it has none, or a stale one."""
        found = self._sealer.unseal(request.cookies.get(COOKIE, ""), self._seconds)
        return SecureCookieSession(found if isinstance(found, dict) else None)

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        """Send what changed."""
        if not session.modified:
            return
        if not session:
            response.delete_cookie(COOKIE, samesite="Strict", secure=self._is_secure, httponly=True)
            return
        response.set_cookie(
            COOKIE,
            self._sealer.seal(dict(session)),
            max_age=int(self._seconds),
            samesite="Strict",
            secure=self._is_secure,
            httponly=True,
        )
