"""Settings are read from a table, and a wrong one says what to do."""

from dataclasses import dataclass

import pytest

from extauthz.core import config
from extauthz.core.config import setting
from extauthz.core.errors import Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    url: str = setting("MCP_SENTINEL_URL", "OTHER_URL", read=config.http_url, help="where")
    workers: int = setting("WORKERS", default=2, read=config.whole(1, 8), help="how many")
    wait_seconds: float = setting("WAIT", default=1.0, read=config.number(0.5), help="how long")
    loud: bool = setting("LOUD", default=False, read=config.flag, help="noise")
    style: str = setting("STYLE", default="json", read=config.one_of("json", "text"), help="form")
    hosts: tuple[str, ...] = setting("HOSTS", default=(), read=config.comma_list, help="hosts")
    key: str = setting(
        "MCP_SENTINEL_KEY",
        default="",
        secret=True,
        files=("MCP_SENTINEL_KEY_FILE",),
        read=config.one_of("s3cret"),
        help="key",
    )


def load(**environ: str) -> Sample:
    return config.load(Sample, {"OTHER_URL": "http://a", **environ}, lambda path: path + "\n")


def test_defaults() -> None:
    """What is not set, or blank, has its default."""
    loaded = load(WORKERS=" ", LOUD="")
    assert (loaded.workers, loaded.wait_seconds, loaded.loud, loaded.hosts) == (2, 1.0, False, ())


def test_values() -> None:
    """Each reader gives the type that the field declares."""
    loaded = load(WORKERS="8", WAIT="0.5", LOUD="1", STYLE="TEXT", HOSTS="a, b,,")
    assert loaded == Sample(
        url="http://a", workers=8, wait_seconds=0.5, loud=True, style="text", hosts=("a", "b")
    )


@pytest.mark.parametrize("name", ["MCP_SENTINEL_URL", "MCP_ANALYTICS_URL", "OTHER_URL"])
def test_aliases(name: str) -> None:
    """A setting answers to each of its names and to the older MCP_ANALYTICS_ spelling."""
    assert config.load(Sample, {name: "http://b"}).url == "http://b"


def test_first_name_wins() -> None:
    """Where two names are set, the first of the table counts."""
    assert load(MCP_SENTINEL_URL="http://first").url == "http://first"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"WORKERS": "two"}, "WORKERS: `two` is not a whole number; write one like 1"),
        ({"WORKERS": "9"}, "WORKERS: `9` is too large; set at most 8"),
        ({"WAIT": "nan"}, "WAIT: `nan` is not a number; write digits alone, without a unit"),
        ({"WAIT": "0.1"}, "WAIT: `0.1` is too small; set at least 0.5"),
        ({"LOUD": "yes"}, "LOUD: `yes` is neither true nor false; write `true` or `false`"),
        ({"STYLE": "xml"}, "STYLE: `xml` is not one of the choices; set one of json, text"),
        ({"OTHER_URL": "a:1"}, "OTHER_URL: `a:1` is not an http or https URL; write it like "),
        ({"OTHER_URL": "http://h:x"}, "OTHER_URL: `http://h:x` is not a URL; write it like "),
    ],
)
def test_wrong_value(environ: dict[str, str], message: str) -> None:
    """A wrong value is told with its name, the value and the mend."""
    with pytest.raises(Invalid) as caught:
        load(**environ)
    assert str(caught.value).startswith(message)


def test_required() -> None:
    """A setting without a default stops the start."""
    with pytest.raises(Invalid, match=r"^MCP_SENTINEL_URL: is not set; set it: where$"):
        config.load(Sample, {})


def test_secrets_are_hidden() -> None:
    """No error, listing or repr shows a secret, or the credentials in a URL."""
    for environ in ({"MCP_SENTINEL_KEY": "hunter2"}, {"OTHER_URL": "http://me:hunter2@h"}):
        with pytest.raises(Invalid) as caught:
            load(**environ)
        assert "hunter2" not in str(caught.value)
    loaded = load(MCP_SENTINEL_KEY="s3cret")
    assert config.changed(loaded) == ["MCP_SENTINEL_URL=http://a", "MCP_SENTINEL_KEY=(hidden)"]
    assert "s3cret" not in repr(loaded)


def test_secret_in_a_file() -> None:
    """A secret may stand in a file, which is trimmed; value and file together are refused."""
    assert load(MCP_ANALYTICS_KEY_FILE="s3cret").key == "s3cret"
    with pytest.raises(Invalid, match="set one of the two"):
        load(MCP_SENTINEL_KEY="s3cret", MCP_SENTINEL_KEY_FILE="x")


def test_unreadable_file() -> None:
    """A file that cannot be read is named with the reason."""

    def missing(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    environ = {"OTHER_URL": "http://a", "MCP_SENTINEL_KEY_FILE": "/x"}
    with pytest.raises(Invalid, match=r"^MCP_SENTINEL_KEY_FILE: `/x` cannot be read \(No such"):
        config.load(Sample, environ, missing)


def test_table() -> None:
    """The table tells name, default and help of every field."""
    rows = config.table(Sample)
    assert list(rows) == ["url", "workers", "wait_seconds", "loud", "style", "hosts", "key"]
    assert rows["url"].names == ("MCP_SENTINEL_URL", "MCP_ANALYTICS_URL", "OTHER_URL")
    assert (rows["url"].required, rows["workers"].default_text) == (True, "2")
    assert (rows["loud"].default_text, rows["wait_seconds"].help) == ("false", "how long")
