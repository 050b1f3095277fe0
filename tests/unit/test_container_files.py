"""The container file, as far as it can be read without building anything."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from envoy_bootstrap.process import command

from tests.tools.container_file import FILE, ROOT, context, images, is_ignored, setting, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STAGES = stages()
BASES = sorted({stage.base for stage in STAGES.values()} - set(STAGES))
COPIED = sorted(
    {
        source
        for stage in STAGES.values()
        for step in stage.steps
        for source in step.words[:-1]
        if step.name == "COPY" and not step.source
    }
)
LOCKS = sorted(FILE.parent.glob("*.lock"))


def test_a_linter_has_nothing_to_say() -> None:
    """Hadolint, with all its rules."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", COPIED)
def test_what_is_copied_is_there(source: str) -> None:
    """In the build's context: `.dockerignore` leaves some of it."""
    assert list(context(source))


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".git/config",
            ".sentinel/admin.key",
            ".env",
            ".venv/pyvenv.cfg",
            "build/x",
            "tests/x.py",
        ),
        *("k8s/02-secrets.yaml", "envoy/envoy_bootstrap/http.py", "backend/__pycache__/x.pyc"),
    ],
)
def test_what_no_image_needs_stays_out(name: str) -> None:
    """Neither data nor keys of whoever builds come near an image."""
    assert is_ignored(name)


@pytest.mark.parametrize("base", BASES)
def test_base_images_are_pinned(base: str) -> None:
    """By a tag with all of its version; from which registry is for who builds to say."""
    name, _, tag = base.partition(":")
    assert name in {"python", "debian"}
    assert re.search(r"\d+\.\d+\.\d+|\d{8}", tag)


@pytest.mark.parametrize("image", images())
def test_an_image_runs_without_rights(image: str) -> None:
    """As a user by its number, no shell around it, and a signal that it drains on."""
    user, group = map(int, setting(image, "USER")[0].split(":"))
    assert user == group >= 10_000
    assert setting(image, "STOPSIGNAL") == ("SIGTERM",)
    assert setting(image, "ENTRYPOINT")[0] in {"/app/bin/python", "/usr/local/bin/envoy"}


@pytest.mark.parametrize("image", images())
def test_an_image_says_what_it_is(image: str) -> None:
    """Its name and version are those of the tag in the manifests; the README has them all."""
    labels = dict(word.split("=", 1) for word in setting(image, "LABEL"))
    assert labels["org.opencontainers.image.title"] == f"mcp-sentinel-{image}"
    assert labels["org.opencontainers.image.version"] == PROJECT["version"]
    assert f"`mcp-sentinel-{image}`" in (FILE.parent / "README.md").read_text()


@pytest.mark.parametrize("image", sorted(set(images()) - {"envoy"}))
def test_the_module_that_it_runs_is_in_it(image: str) -> None:
    """`python -m` finds it among what is copied."""
    option, module = setting(image, "ENTRYPOINT")[1:]
    assert option == "-m"
    main = ROOT / module.replace(".", "/") / "__main__.py"
    copied = {
        file
        for step in STAGES[f"{image}-files"].steps
        if step.name == "COPY"
        for source in step.words[:-1]
        for file in context(source)
    }
    assert main in copied


def test_envoy_runs_as_everywhere() -> None:
    """The command is the one that the embedded stack and the tests run it by."""
    words = [*setting("envoy", "ENTRYPOINT"), *setting("envoy", "CMD")]
    written = command("/usr/local/bin/envoy", "/etc/envoy/sidecar.yaml")
    assert sorted(words) == sorted(written)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_images_hold_what_was_tested(lock: Path) -> None:
    """Each version is that of the tests' own lock file, and none comes without hashes."""
    tested = _pins(ROOT / "requirements-test.lock")
    assert _pins(lock).items() <= tested.items()
    assert len(_pins(lock)) == len(re.findall(r"== ?\S+ \\\n +--hash=", lock.read_text()))


def test_each_lock_file_is_used() -> None:
    """By a step of its own."""
    used = {word for stage in STAGES.values() for step in stage.steps for word in step.words}
    assert {str(lock.relative_to(ROOT)) for lock in LOCKS} <= used


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", lock.read_text(), re.M))
