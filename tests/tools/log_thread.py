"""An event log on a loop of its own, as threads that are not its own see it."""

import asyncio
import threading
from typing import Any, Final
from uuid import UUID

from backend.ports.event_log import DeadLetter, EventLog, Position, Record

WAIT_SECONDS: Final = 120  # a disk that others write to may take its time
TOPIC: Final = UUID("0f6e2c3a-0000-4000-8000-000000000001")


class LogThread:
    """An event loop in a thread, as the backend's is seen from waitress's threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_SECONDS)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def set_aside(
        self, log: EventLog, offset: int, value: bytes = b"{}", why: str = "not JSON"
    ) -> str:
        """Make a dead letter; its id."""
        position = Position(TOPIC, 3, offset)
        record = Record(position=position, value=value, headers=(("traceparent", b"00-1"),))
        self.run(log.dead_letter([DeadLetter(record, why)]))
        return f"{TOPIC}:3:{offset}"
