"""YAML is read to JSON types, with lines, and within bounds."""

import json

import pytest

from extauthz.core.documents import MAX_DEPTH, MAX_FILE_BYTES, Unreadable, read_documents


def values(text: str) -> list[object]:
    return [document.value for document in read_documents(text.encode())]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2026-12-31T23:59:59Z", {"a": "2026-12-31T23:59:59Z"}),
        ("a: 2026-12-31", {"a": "2026-12-31"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 24h", {"a": "24h"}),
        ("a: 0x1f", {"a": 31}),
        ("a: [1, -2.5, true, off]", {"a": [1, -2.5, True, False]}),
        ("a: [null, ~, '1', \"x\"]", {"a": [None, None, "1", "x"]}),
        ("a: !!str 12", {"a": "12"}),
        ("a: =", {"a": "="}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("\ufeffa: é", {"a": "é"}),
        ('{"a": {"b": []}}', {"a": {"b": []}}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"c": 3, "b": 1}}),
    ],
)
def test_values(text: str, value: dict[str, object]) -> None:
    """What is read has JSON types alone; times stay the text they are."""
    (read,) = values(text)
    assert read == value
    assert json.loads(json.dumps(read)) == read


def test_several_documents() -> None:
    """A stream's documents come in order; empty ones and comments are left out."""
    assert values("# only a comment\n---\n---\na: 1\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]
    assert values("") == []


def test_list_is_its_items() -> None:
    """What `kubectl get -o yaml` writes is read as the objects in it, with their lines."""
    text = "apiVersion: v1\nkind: List\nitems:\n- spec:\n    a: 1\n- spec:\n    a: 2\n"
    documents = list(read_documents(text.encode()))
    assert [document.value for document in documents] == [{"spec": {"a": 1}}, {"spec": {"a": 2}}]
    assert [document.line_of("spec.a") for document in documents] == [5, 7]


@pytest.mark.parametrize(
    "items", ["<<: {items: [{a: 1}]}", "items: *x", "items: [{a: 1}]\n'items[9]': 3"]
)
def test_list_whose_items_stand_elsewhere(items: str) -> None:
    """Items that an alias or a merge brought in have the line of the List, or their own."""
    text = f"x: &x [{{a: 1}}]\napiVersion: v1\nkind: List\n{items}\n"
    (document,) = read_documents(text.encode())
    assert document.value == {"a": 1}
    assert document.line in {1, 4}


def test_long_list_costs_one_pass() -> None:
    """Thousands of objects in one List are read as fast as in documents of their own."""
    items = "".join(f"- {{a: {i}, b: [1, 2, 3]}}\n" for i in range(10_000))
    documents = list(read_documents(f"apiVersion: v1\nkind: List\nitems:\n{items}".encode()))
    assert len(documents) == 10_000
    assert documents[-1].line_of("b[2]") == 10_003


def test_paths_stay_short() -> None:
    """Every node keeps its path, so long keys around many nodes would fill the memory."""
    text = f"? {'k' * 60_000}\n: [{'1,' * 60_000}]\n"
    with pytest.raises(Unreadable, match="keys that are too long; shorten them"):
        list(read_documents(text.encode()))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3", 3, "second key `a`"),
        ('a: 1\n"\\u0061": 3', 2, "second key `a`"),
        ("a:\n  1: x", 2, "key `1` is not a string"),
        ("on: x", 1, "key `on` is not a string"),
        ("? [a]\n: x", 1, "a key is not a string"),
        ("a: !!binary aGk=", 1, "is not a JSON value"),
        ("a: !!python/name:os.system x", 1, "is not a JSON value"),
        ("a: !new {b: c}", 1, "tag `!new` is not JSON"),
        ("a: !!set {b}", 1, "is not JSON"),
        ("a: .nan", 1, "is not a JSON value"),
        ("a: -.inf", 1, "is not a JSON value"),
        ("a: !!int x", 1, "is not a JSON value"),
        ("a: " + "9" * 5000, 1, "is not a JSON value"),
        ("a: *x", 1, "names no anchor"),
        ("a: &x [*x]", 1, "names no anchor"),
        ("a: &x 1\n---\nb: *x", 3, "names no anchor"),
        ("a: 1\nb: {<<: 2}", 2, "merges something else"),
        ("a: 1\n b: 2", 2, "is not YAML"),
        ("a: [1", 2, "is not YAML"),
        ("a: 1\nb: @x", 2, "is not YAML"),
        ("a: \x07", 0, "characters that YAML forbids"),
        ("a: " + "[" * (MAX_DEPTH + 1), 1, f"nested deeper than {MAX_DEPTH}"),
        ("a: " + "{b: " * 100_000, 1, f"nested deeper than {MAX_DEPTH}"),
    ],
)
def test_refused(text: str, line: int, problem: str) -> None:
    """What Kubernetes would not read, or what nobody can read in one way, names its line."""
    with pytest.raises(Unreadable) as caught:
        values(text)
    assert problem in caught.value.problem
    assert caught.value.line == line


def test_laughs_are_bounded() -> None:
    """Aliases that grow exponentially are refused before they are expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(Unreadable, match="aliases grow without bound"):
        values("\n".join(lines))


def test_size_is_bounded() -> None:
    """A file that is too large is not read at all."""
    with pytest.raises(Unreadable, match="is larger than"):
        list(read_documents(b" " * (MAX_FILE_BYTES + 1)))


@pytest.mark.parametrize("raw", [b"a: 1\nb: \xff", "a: 1\n".encode("utf-16")])
def test_encoding(raw: bytes) -> None:
    """Only UTF-8 is read."""
    with pytest.raises(Unreadable, match="is not UTF-8 text"):
        list(read_documents(raw))


def test_lines() -> None:
    """Each field knows its line; a missing one has that of what is around it."""
    text = "---\nx: 1\n---\nspec:\n  rules:\n  - name: a\n    decision: b\n  - c\n"
    _, document = read_documents(text.encode())
    assert document.line == 4
    fields = ("spec", "spec.rules", "spec.rules[0].decision", "spec.rules[1]")
    assert [document.line_of(path) for path in fields] == [4, 5, 7, 8]
    assert document.line_of("spec.rules[0].none") == 6
    assert document.line_of("spec.none[3].deep") == document.line_of("none") == 4
