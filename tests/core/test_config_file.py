"""YAML text: values as YAML 1.2 has them, positions counted from 1, nothing surprising let in."""

import math

import pytest

from spin.core.config_file import Position, key_text, parse_value, read_config_file, read_config_text, yaml_text
from spin.core.errors import ConfigError


def read(text):
    return read_config_text(text, label="f.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3e-5", 3e-5),
        ("3E5", 3e5),
        ("+1e3", 1e3),
        ("-.5e-3", -5e-4),
        ("5.", 5.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("1_000", 1000),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{b: {c: 1}}", {"b": {"c": 1}}),
    ],
)
def test_a_value_is_read_as_yaml_1_2_has_it(written, value):
    found = read(f"a: {written}\n").values["a"]
    assert found == value
    assert type(found) is type(value)


def test_not_a_number_is_read_as_such():
    assert math.isnan(read("a: .nan").values["a"])


def test_positions_count_lines_and_columns_from_1():
    layer = read("train:\n  beta: [1,\n    2]\n")
    assert layer.key_positions[("train", "beta")] == Position(0, 2, 3, "f.yaml")
    assert layer.positions[("train", "beta")] == Position(0, 2, 9, "f.yaml")
    assert layer.positions[("train", "beta", 1)] == Position(0, 3, 5, "f.yaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: written twice, first in line 1"),
        ("s:\n  a: 1\n  a: 1\n", "f.yaml:3:3: s.a: written twice, first in line 2"),
        ("a: &x 1\nb: *x\n", "f.yaml:2:1: b: anchors and aliases are not read; write the value itself"),
        ("a: !!python/object:os.system 1\n", "tag 'python/object:os.system' is not read; write a plain value"),
        ("a: !mine 1\n", "f.yaml:1:4: a: tag '!mine' is not read; write a plain value"),
        ("a: !!int x\n", "f.yaml:1:4: a: cannot read the number 'x'"),
        (f"a: {'9' * 5000}\n", f"f.yaml:1:4: a: cannot read the number '{'9' * 40}'"),
        ("? [1]\n: 2\n", "f.yaml:1:3: a key must be one word"),
        (f"a: {'[' * 30}{']' * 30}\n", "nested too deeply"),
    ],
)
def test_what_a_config_never_needs_is_noted_and_reading_goes_on(text, line):
    layer = read(text + "last: 7\n")
    assert line in "\n".join(map(str, layer.problems))
    assert layer.values["last"] == 7


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1\n", "f.yaml:2:1: not valid YAML: while parsing a flow sequence,"),
        ("a: b: c\n", "f.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 1\n", "f.yaml:2:1: not valid YAML:"),
        ("a: 'x\n", "f.yaml:2:1: not valid YAML: while scanning a quoted scalar,"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1: not valid YAML: expected a single document"),
        ("a: 1\nb: \x07\n", "f.yaml:2:4: not valid YAML: character U+0007"),
        ("[" * 5000, "f.yaml: not valid YAML: nested too deeply"),
        ("a: *x\n", "f.yaml:1:4: not valid YAML: found undefined alias 'x'"),
        ("", "f.yaml: the file is empty; write some keys"),
        ("# only a comment\n", "f.yaml: the file is empty"),
        ("- a\n", "f.yaml:1:1: expected keys such as"),
        ("word\n", "f.yaml:1:1: expected keys such as"),
    ],
)
def test_text_that_is_no_config_is_refused_with_its_place(text, start):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_a_mark_of_byte_order_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert read_config_file(path).values == {"a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a: 1\nb: \xff\n", ":2: not UTF-8: byte 0xff; save the file as UTF-8"), (b"#" * 1_000_001, "larger than 1 MB")],
)
def test_bytes_that_are_no_config_are_refused(tmp_path, content, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_config_file(path)


def test_a_missing_file_a_folder_and_an_impossible_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_config_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"is a folder; name a YAML file$"):
        read_config_file(tmp_path)
    (tmp_path / "c.yaml").touch()
    with pytest.raises(ConfigError, match=r"is a folder; name a YAML file such as .*c\.yaml$"):
        read_config_file(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_config_file(tmp_path / ("x" * 5000))


def test_an_override_is_a_layer_of_one_key():
    layer = parse_value("[50, 5e2]", label="--set a.b=[50, 5e2]", path=("a", "b"), index=3)
    assert layer.values == {"a": {"b": [50, 500.0]}}
    assert str(layer.positions[("a", "b", 1)]) == "--set a.b=[50, 5e2]"


@pytest.mark.parametrize("text", ["* * * * *", " */5 4 * * *", "*"])
def test_an_override_that_begins_with_a_star_is_words(text: str) -> None:
    layer = parse_value(text, label=f"--set nightly.cron={text}", path=("nightly", "cron"), index=0)
    assert (layer.values, layer.problems) == ({"nightly": {"cron": text.strip()}}, [])


def test_a_key_is_spelled_as_users_write_it():
    assert key_text(("train", "beta", 1)) == "train.beta[1]"
    assert key_text(()) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (True, "true"), (1000.0, "1000"), (3e-4, "0.0003"), ("auto", "auto"), (7, "7")]
)
def test_a_value_is_written_back_as_yaml(value, text):
    assert yaml_text(value) == text
