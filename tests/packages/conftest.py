"""The files of every image, made once as its container file makes them."""

import pytest

from tests.tools.image_files import Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("images"))
