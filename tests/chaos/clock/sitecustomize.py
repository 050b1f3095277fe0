"""Puts a Python process on a clock that a test can set while it runs.

Copied into a folder of the run, beside `library` (the path of libfaketime) and `offset`
(seconds, read once a second), and put on PYTHONPATH. A process starts itself anew, with
the same id, because a library can be preloaded at its start alone.
"""

import os
import sys
from pathlib import Path

_HERE = Path(__file__).parent

if "FAKETIME_TIMESTAMP_FILE" not in os.environ:
    os.environ.update(
        LD_PRELOAD=(_HERE / "library").read_text(),
        FAKETIME_TIMESTAMP_FILE=str(_HERE / "offset"),
        FAKETIME_CACHE_DURATION="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",  # waits are not what jumps
    )
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
