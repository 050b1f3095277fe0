"""The token that a sidecar presents."""

import re
from typing import Final

from extauthz.sources.stream.failures import Away, unreadable
from extauthz.sources.stream.options import TOKEN_FILE, StreamOptions

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_MOST_BYTES: Final = 16 * 1024


def read_token(options: StreamOptions) -> str:
    """The token as it is in the file now; empty where none is set.

    Raises:
        Away: the file cannot be read, or holds something else.
    """
    path = options.token_file
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Away(unreadable(TOKEN_FILE, path, str(error.strerror))) from error
    token = raw.decode("ascii", "replace").strip()
    if len(raw) > _MOST_BYTES or not _TOKEN.fullmatch(token):
        raise Away(unreadable(TOKEN_FILE, path, "it holds no token"))
    return token
