"""JSON files of strangers: read within limits, or refused by the name of file and field."""

import time
import tracemalloc

import pytest

from data.files import json_field, read_json, write_json


def test_an_object_comes_back(tmp_path):
    file = tmp_path / "a.json"
    content = {"name": "Bär", "epochs": [1, None, -2.5e-3], "seed": 2**64 - 1, "deep": {"a": []}}
    write_json(file, content)
    assert read_json(file) == content
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as Windows' editors begin UTF-8
    assert read_json(file) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON: Expecting value"),
        (b'{"a": 1', "is not valid JSON"),
        (b"[1]", "is not a JSON object: it holds list"),
        (b"null", "is not a JSON object: it holds NoneType"),
        (b'{"a": "\xff"}', "is not valid JSON: 'utf-8' codec"),
        (b'{"a": NaN}', "'a' is nan, expected a finite number"),
        (b'{"a": [-Infinity]}', "'a' is -inf, expected a finite number"),
        (b'{"b": {"a": 1e999}}', "'a' is inf, expected a finite number"),
        (b'{"a": [{"b": 1}, [0, [NaN]]]}', "'a' is nan, expected a finite number"),
        (b'{"a": 36893488147419103232}', "'a' is 36893488147419103232, expected .*64 bits"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "'a' is inf, expected a finite number"),
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "the key 'c' occurs twice"),
        (b'{"a": ' + b"[" * 32 + b"]" * 32 + b"}", "nests objects and lists deeper than 32"),
        (b'{"a": ' + b"[" * 100_000, "nests objects and lists deeper than 32"),
        (b'{"a": "' + b"x" * 2**24 + b'"}', "has more than 16,777,216 bytes"),
    ],
)
def test_what_is_no_sound_object_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json .*{message}") as caught:
        read_json(file)
    assert len(str(caught.value)) < len(str(file)) + 200


def test_what_is_just_within_the_limits_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}")
    assert read_json(file).keys() == {"a"}
    with pytest.raises(ValueError, match="more than 60 bytes"):
        read_json(file, most_bytes=60)


def test_many_keys_are_compared_in_no_time(tmp_path):
    file = tmp_path / "a.json"
    keys = ", ".join(f'"{number}": 0' for number in [*range(100_000), 7])
    file.write_text(f"{{{keys}}}")
    start = time.monotonic()
    with pytest.raises(ValueError, match="the key '7' occurs twice"):
        read_json(file)
    assert time.monotonic() - start < 5


def test_objects_become_what_the_reader_makes_of_them(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"data": [{"wav": "a"}, {"wav": "b"}]}')
    assert read_json(file, convert=lambda entry: entry.get("wav", entry)) == {"data": ["a", "b"]}


CONTENT = {
    "count": 3,
    "share": 0.5,
    "text": "abc",
    "flag": True,
    "list": [1, 2],
    "object": {},
    "null": None,
}


@pytest.mark.parametrize(
    ("name", "kind", "bounds", "value"),
    [
        ("count", int, (3, 3), 3),
        ("share", float, (0, 1), 0.5),
        ("count", float, (), 3.0),
        ("text", str, (3, 3), "abc"),
        ("flag", bool, (), True),
        ("list", list, (1, 2), [1, 2]),
        ("object", dict, (), {}),
    ],
)
def test_a_field_of_the_type_and_in_the_range_is_given(name, kind, bounds, value):
    found = json_field(CONTENT, name, kind, "a.json", *bounds)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "kind", "bounds", "message"),
    [
        ("none", int, (1,), "a.json lacks the field none: expected a whole number at least 1"),
        ("share", int, (), "a.json: share is 0.5, expected a whole number"),
        ("flag", int, (), "flag is True, expected a whole number"),
        ("flag", float, (), "flag is True, expected a number"),
        ("count", bool, (), "count is 3, expected true or false"),
        ("null", float, (), "null is None, expected a number"),
        ("null", str, (), "null is None, expected a text"),
        ("text", list, (), "text is 'abc', expected a list"),
        ("list", dict, (), r"list is \[1, 2\], expected an object"),
        ("count", int, (4, 9), "count is 3, expected a whole number at least 4 and at most 9"),
        ("share", float, (0, 0.4), "share is 0.5, expected a number at least 0 and at most 0.4"),
        ("list", list, (3,), r"list is \[1, 2\], expected a list of a length at least 3"),
    ],
)
def test_another_field_is_refused_by_file_and_name(name, kind, bounds, message):
    with pytest.raises(ValueError, match=f"{message}$"):
        json_field(CONTENT, name, kind, "a.json", *bounds)


def test_a_field_that_may_be_missing_has_a_default_and_is_checked_where_it_is_there():
    assert json_field(CONTENT, "none", int, "a.json", default=7) == 7
    with pytest.raises(ValueError, match="text is 'abc', expected a whole number"):
        json_field(CONTENT, "text", int, "a.json", default=7)


def test_a_small_file_takes_little_memory_whatever_the_limit_is(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("{}")
    tracemalloc.start()
    read_json(file, most_bytes=2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
