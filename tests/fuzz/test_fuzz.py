"""The fuzz target, bounded and with a fixed seed; `make fuzz` runs it for longer."""

import subprocess
import sys
from pathlib import Path

RUNS = 100_000


def test_no_input_breaks_an_invariant(tmp_path: Path) -> None:
    """Deciding never raises, and every reading of what is allowed agrees with the gate's."""
    words = (sys.executable, "-m", "tests.fuzz.target", str(tmp_path / "inputs"))
    options = (f"-runs={RUNS}", "-seed=1")
    done = subprocess.run((*words, *options), capture_output=True, timeout=300, check=False)
    told = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, told[-4000:]
    assert f"Done {RUNS} runs" in told, told[-4000:]
