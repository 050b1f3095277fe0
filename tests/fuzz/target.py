"""The coverage-guided fuzz target: `python -m tests.fuzz.target FOLDER [libFuzzer's options]`.

FOLDER keeps the inputs found so far and starts with the corpus. The first byte of an input
chooses the headers, the rest is the body.
"""

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["extauthz.core"]):
    from extauthz.core.decide import Snapshot
    from tests.corpus.case import corpus_policy, load
    from tests.fuzz.invariants import build_request, check, selector_of

MAX_BYTES = 4096
WORDS = Path(__file__).with_name("words.dict")
MEMBERS = [
    member.encode()
    for member in (
        '"method":"tools/call"',
        '"Method":"tools/call"',
        '"\\u006dethod":"tools/call"',
        '"method":"ping"',
        '"params":{"name":"refund"}',
        '"param\u017f":{"name":"refund"}',
        '"params":{"name":"echo","arguments":{"a":1}}',
        '"name":"refund"',
        '"name":"echo"',
        '"NAME":"refund"',
        '"n\\u0061me":"refund"',
        '"arguments":{"a":1}',
        '"argument\\u017f":{"a":2}',
        '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}',
        '"jsonrpc":"2.0"',
        '"id":1',
        '"result":{}',
    )
]


def seed(folder: Path) -> None:
    """Write the corpus's bodies as inputs, each once."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in load("*"):
        if case.alone and len(case.body) < MAX_BYTES:
            headers = {name: value.decode("latin-1") for name, value in case.request().headers}
            data = bytes([selector_of(headers)]) + case.body
            (folder / case.id.replace("/", "-")).write_bytes(data)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Put a member into some object, so that the outcome is often JSON; else mutate bytes."""
    random = Random(seed)
    places = [at + 1 for at, byte in enumerate(data) if byte == ord("{")]
    if not places or random.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    at, member = random.choice(places), random.choice(MEMBERS)
    comma = b"" if data[at : at + 1] == b"}" else b","
    return (data[:at] + member + comma + data[at:])[:max_size]


def main() -> None:
    """Fuzz until the options say stop, or an invariant breaks."""
    folder = Path(sys.argv[1])
    seed(folder)
    snapshot = Snapshot.of(corpus_policy())

    def one_input(data: bytes) -> None:
        check(snapshot, build_request(data[0] if data else 0, data[1:]))

    options = [f"-dict={WORDS}", f"-max_len={MAX_BYTES}", f"-artifact_prefix={folder.parent}/"]
    atheris.Setup(
        [sys.argv[0], *options, *sys.argv[2:], str(folder)], one_input, custom_mutator=mutate
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
