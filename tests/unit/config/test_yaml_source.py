"""One file becomes flat entries with line numbers, or an error that names file, line and reason."""

import os
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.config import ConfigError
from coordd.config.yaml_source import MAX_BYTES, parse_yaml, read_yaml


def values(text: str) -> dict[str, str]:
    return {entry.key: entry.value for entry in parse_yaml(dedent(text), "f.yaml")}


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(dedent(text), "f.yaml")
    assert not caught.value.unreadable
    return str(caught.value)


def test_nested_keys_are_joined_and_keep_spelling_and_line() -> None:
    entries = parse_yaml("etcd:\n  ssl:\n    tlsMinVersion: 1.30\nlog.level: debug\n", "f.yaml")
    assert [(entry.key, entry.value, entry.origin.line) for entry in entries] == [
        ("etcd.ssl.tlsMinVersion", "1.30", 3),
        ("log.level", "debug", 4),
    ]
    assert str(entries[0].origin) == "f.yaml:3"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("16", "16"),
        ("1.0", "1.0"),
        ("0012", "0012"),
        ("true", "true"),
        ("2024-01-04", "2024-01-04"),
        ('"quoted"', "quoted"),
        ("", ""),
        ("~", ""),
        ("null", ""),
        ("'null'", "null"),
        ("[a, b , 3]", "a,b,3"),
        ("[]", ""),
        ("[a, ~]", "a,"),
        ("|-\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars_keep_their_text_and_lists_are_joined(written: str, read: str) -> None:
    assert values(f"key: {written}\n") == {"key": read}


def test_block_lists_are_joined() -> None:
    assert values("etcd:\n  endpoints:\n    - a:1\n    - b:2\n") == {"etcd.endpoints": "a:1,b:2"}


def test_aliases_and_merge_keys_are_resolved() -> None:
    text = """
        base: &base {port: 1, ip: x}
        more: &more {ip: y, size: 3}
        rootCoord:
          <<: [*base, *more]
          port: 2
        copy: *base
    """
    found = values(text)
    assert found["rootCoord.port"] == "2"
    assert found["rootCoord.ip"] == "x"
    assert found["rootCoord.size"] == "3"
    assert found["copy.port"] == "1"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_file_has_no_entries(text: str) -> None:
    assert values(text) == {}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbflog:\n  level: warn\n")
    assert [entry.key for entry in read_yaml(path)] == ["log.level"]


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ("a: [1, 2\nb: 3\n", "f.yaml:2", "is not valid YAML"),
        ("a:\n\tb: 1\n", "f.yaml:2", "a tab: indent with spaces"),
        ("a: 1\n b: 2\n", "f.yaml:2", "is not valid YAML"),
        ("a: b: c\n", "f.yaml:1", "mapping values are not allowed"),
        ("a: *nowhere\n", "f.yaml:1", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2", "another document"),
        ("a: \x00\n", "f.yaml:1", "is not valid YAML"),
        ("- a\n- b\n", "f.yaml:1", "must hold sections"),
        ("just text\n", "f.yaml:1", "must hold sections"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "f.yaml:5", "the key c twice, first in line 3"),
        ("? [a, b]\n: 1\n", "f.yaml:1", "a key that is not a single value"),
        ("a:\n  <<: text\n", "f.yaml:2", "not a mapping"),
        ("a: &a\n  b: *a\n", "f.yaml:1", "an alias inside the value that it stands for"),
        ("a: &a\n  <<: *a\n", "f.yaml:1", "an alias inside the value that it stands for"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, where: str, reason: str) -> None:
    message = problem(text)
    assert message.startswith(where)
    assert reason in message


def test_unknown_tags_and_lists_of_mappings_are_faults_of_one_key() -> None:
    text = "a: !vault x\nb: [{c: 1}]\nc: !!python/name:os.system ''\nd: [!x y]\ne: !sec {f: 1}\ng: 1\n"
    faults = {entry.key: entry.fault for entry in parse_yaml(text, "f.yaml")}
    assert faults["a"] == "has the unknown YAML tag !vault"
    assert "not single values" in (faults["b"] or "")
    assert "unknown YAML tag" in (faults["c"] or "")
    assert "not single values" in (faults["d"] or "")
    assert faults["e"] == "has the unknown YAML tag !sec"
    assert faults["g"] is None


def test_a_small_file_cannot_become_huge() -> None:
    doubled = [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 30)]
    rows = ["a0: &a0 {x: 1, y: 2}", *doubled]
    assert "more than" in problem("\n".join(rows))


def test_files_that_cannot_be_read_are_unreadable(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    for path, reason in [
        (tmp_path / "missing.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        (huge, "larger than"),
    ]:
        with pytest.raises(ConfigError, match=reason) as caught:
            read_yaml(path)
        assert caught.value.unreadable
        assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied") as caught:
        read_yaml(path)
    assert caught.value.unreadable


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"log:\n  level: \xff\n")
    with pytest.raises(ConfigError, match=r"f\.yaml:2: is not UTF-8 text"):
        read_yaml(path)


@given(st.text(max_size=200))
def test_any_text_gives_entries_or_a_config_error(text: str) -> None:
    try:
        entries = parse_yaml(text, "f.yaml")
    except ConfigError as error:
        places = [problem.origin for problem in error.problems]
    else:
        places = [entry.origin for entry in entries]
        assert all(place.line for place in places)
    assert all(place.file == "f.yaml" for place in places)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_nesting_without_end_is_an_error_and_not_the_end_of_the_process(opening: str) -> None:
    assert "f.yaml:1: is nested more than 100 levels deep" in problem(opening * 100_000)
