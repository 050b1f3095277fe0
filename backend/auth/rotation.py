"""API_KEYS_FILE read again when it changes, so that keys rotate without a restart."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from backend.auth.api_keys import ApiKeys
from backend.auth.key_file import SETTING
from backend.auth.principal import Principal
from backend.metrics import AuthMetrics
from extauthz.core.errors import Invalid

LOOK_SECONDS: Final = 1.0  # a change counts once it stands for two looks

_log = logging.getLogger(__name__)


class KeysOfFile:
    """Verifier by a file's keys; a file that cannot be used leaves them as they were.

    Args:
        path: the file.
        usable: the keys that count with this content. Raises: Invalid.
        metrics: tells of changes, and of a file that is refused.

    Raises:
        Invalid: the file cannot be used now, at the start.
    """

    def __init__(
        self, path: Path, usable: Callable[[bytes], ApiKeys], metrics: AuthMetrics
    ) -> None:
        self._path, self._usable, self._metrics = path, usable, metrics
        self._taken = self._seen = read(path)
        self._keys = usable(self._taken)
        self._fault = ""

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        return self._keys.verify(credentials, source)

    async def run(self) -> None:
        """Look at the file until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Take what stands in the file, unless it is being written or cannot be used."""
        try:
            content = read(self._path)
            if content != self._seen:  # somebody may be writing
                self._seen = content
                return
            if content != self._taken:
                self._keys = self._usable(content)
                self._taken = content
                self._metrics.key_file_changes.inc()
                _log.info("keys of the file replaced", extra={"path": str(self._path)})
        except Invalid as error:
            self._refuse(str(error))
        else:
            self._fault = ""
            self._metrics.key_file_refused.set(0)

    def _refuse(self, fault: str) -> None:
        if fault != self._fault:
            _log.error(
                "keys of the file not replaced; those before it count on", extra={"error": fault}
            )
        self._fault = fault
        self._metrics.key_file_refused.set(1)


def read(path: Path) -> bytes:
    """Raises: Invalid: it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"`{path}` cannot be read ({error.strerror})"
        raise Invalid(SETTING, problem, "name a readable file") from error
