"""What the images hold, and what they weigh."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.tools.container_file import images
from tests.tools.image_files import Builder
from tests.tools.waiting import SECONDS

MOST_BYTES = 60_000_000  # of a sidecar without Envoy
MOST_WITH_ENVOY = 150 << 20
OURS = ("backend", "extauthz", "protos", "ui", "envoy_bootstrap")
# Which of our packages an image may import; the dashboard knows the core alone.
MAY_IMPORT = {
    "sidecar": {"extauthz", "protos"},
    "backend": {"backend", "extauthz", "protos"},
    "ui": {"ui", "extauthz"},
    "reference-server": {"backend"},
}


def test_a_sidecar_is_light(builder: Builder) -> None:
    sidecar, envoy = builder.image("sidecar").bytes, builder.image("envoy").bytes
    assert sidecar <= MOST_BYTES, f"{sidecar / 1e6:.1f} MB"
    assert sidecar + envoy <= MOST_WITH_ENVOY, f"{(sidecar + envoy) / (1 << 20):.1f} MiB"


def test_all_images_with_python_are_looked_at() -> None:
    assert set(images()) == {*MAY_IMPORT, "envoy"}


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_an_image_holds_its_own_code_alone(builder: Builder, name: str) -> None:
    """Asked of its own Python, where nothing of this checkout can be found."""
    image = builder.image(name)
    python, *_ = image.command()
    asked = f"import importlib.util as u; print(*[n for n in {OURS!r} if u.find_spec(n)])"
    done = subprocess.run(
        [python, "-I", "-c", asked],
        cwd=image.root,
        env={},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == MAY_IMPORT[name]


@pytest.mark.parametrize("config", ["sidecar.yaml", "gateway.yaml"])
def test_envoy_takes_its_configuration(builder: Builder, config: str, tmp_path: Path) -> None:
    """The files of the image, by the image's own Envoy; a folder stands for the pod's volumes."""
    image = builder.image("envoy")
    text = (image.root / f"etc/envoy/{config}").read_text()
    (tmp_path / config).write_text(re.sub("/var/(run|spool)/sentinel", str(tmp_path), text))
    binary, *others = image.command("-c", f"/etc/envoy/{config}")
    command = [binary, *others[:-1], str(tmp_path / config), "--mode", "validate"]
    done = subprocess.run(
        command, env={}, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
