"""Keeps changes in an outbox while the log is away, until it is killed."""

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import uuid_utils

from backend.history.delivery import Delivery
from backend.history.ledger import Ledger
from backend.history.outbox import Outbox
from backend.history.recorder import Recorder
from extauthz.core.errors import Retryable
from extauthz.core.governance import Action, Change, Key


async def away() -> NoReturn:
    raise Retryable("the log is away")


def main() -> None:
    path, many = Path(sys.argv[1]), int(sys.argv[2])
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    outbox = Outbox(path, time.time)
    recorder = Recorder(
        ledger=Ledger(),
        outbox=outbox,
        delivery=Delivery(outbox, away),
        loop=loop,
        clock=time.time,
        new_id=lambda: str(uuid_utils.uuid7()),
    )
    for number in range(many):
        key = Key("MCPAccessGrant", "ns", f"g{number}")
        recorder.record_later(Change(key, Action.DELETED, "ada", "srv", None, None))
        print(number, flush=True)
    time.sleep(600)


main()
