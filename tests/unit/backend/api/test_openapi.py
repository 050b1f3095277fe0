"""The OpenAPI document and the page that shows it."""

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.api.docs import ASSET_TYPES
from tests.unit.backend.api.conftest import NewApp

NPM = Path("tests/tools/vendored/node_modules/swagger-ui-dist")
ASSETS = Path("backend/api/assets")
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture(scope="module")
def app(new_app: NewApp) -> Flask:
    return new_app(None)


@pytest.fixture(scope="module")
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def document(client: FlaskClient) -> Any:
    return client.get("/api/openapi.json").json


def served(app: Flask) -> set[tuple[str, str]]:
    """Method and path of each route, in OpenAPI's writing."""
    return {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
    }


def test_the_document_lists_every_route_and_no_other(app: Flask, document: Any) -> None:
    """Below /api, and at the root."""
    described = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert described == {each for each in served(app) if not each[1].startswith("/api/v1")}


def test_both_spellings_have_the_same_routes(app: Flask) -> None:
    """Each path below /api answers below /api/v1 as well."""
    old = {(m, p) for m, p in served(app) if p.startswith("/api/") and "/api/v1/" not in p}
    new = {(m, p.replace("/api/v1/", "/api/")) for m, p in served(app) if "/api/v1/" in p}
    assert old == new
    assert len(old) > 20


def test_operations_are_described(document: Any) -> None:
    """Each has a name of its own, a sentence, and answers; parameters have a sentence too."""
    operations = [op for at in document["paths"].values() for op in at.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"].endswith(".")
        assert operation["responses"]
        assert all(each["description"] for each in operation["parameters"])


def test_references_lead_somewhere(document: Any) -> None:
    """Of schemas, by name."""
    found = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))
    assert found <= set(document["components"]["schemas"])
    assert document["openapi"] == "3.1.0"


def test_the_page_asks_nobody_else(client: FlaskClient) -> None:
    """Only this service's own files; no inline script or style."""
    for mount in ("/api", "/api/v1"):
        page = client.get(f"{mount}/docs")
        assert (page.status_code, page.mimetype) == (200, "text/html")
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        sources = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
        assert all(each.startswith(("/api/", "data:,")) for each in sources)
        for source in sources:
            if source.startswith("/api/"):
                assert client.get(source).status_code == 200
    assert not re.search(r"<script>|<style|style=|onload=", page.text)


@pytest.mark.parametrize("name", ASSET_TYPES)
def test_files_have_their_type(client: FlaskClient, name: str) -> None:
    """And are not guessed to be another."""
    answer = client.get(f"/api/docs/{name}")
    assert (answer.status_code, answer.mimetype) == (200, ASSET_TYPES[name])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert len(answer.data) > 50


@pytest.mark.parametrize(
    ("name", "vendored"),
    [
        ("swagger-ui-bundle.js", "swagger-ui-bundle.js"),
        ("swagger-ui.css", "swagger-ui.css"),
        ("swagger-ui-bundle.js.LICENSE.txt", "swagger-ui-bundle.js.LICENSE.txt"),
        ("LICENSE", "swagger-ui.LICENSE"),
        ("NOTICE", "swagger-ui.NOTICE"),
    ],
)
def test_vendored_files_are_those_of_the_lock_file(name: str, vendored: str) -> None:
    """npm checked the package's hash when it was installed; its files are here, unchanged."""
    assert (ASSETS / vendored).read_bytes() == (NPM / name).read_bytes()
