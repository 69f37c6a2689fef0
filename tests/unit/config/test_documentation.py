"""config/milvus.yaml documents every key that is read, with its default, and nothing else."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from coordd.config import Settings, load_config
from coordd.config.keys import Group, Key
from coordd.config.schema import GROUPS, SCHEMA, Kind, Setting
from coordd.config.yaml_source import parse_yaml

FILE = Path(__file__).parents[3] / "config" / "milvus.yaml"
TEXT = FILE.read_text(encoding="utf-8")
LINES = TEXT.splitlines()
ENTRIES = {entry.key: entry for entry in parse_yaml(TEXT, str(FILE))}
SOURCE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in (Path(__file__).parents[3] / "coordd").rglob("*.py")
    if not path.name.endswith("_pb2.py")
)
UNIT_WORDS = {
    "_ms": "millisecond",
    "_s": "second",
    "_size": "byte",
    "_mb": "MiB",
    "_days": "day",
}


def comment_above(setting: Setting) -> str:
    """The comment lines right above the key of `setting`, joined."""
    line = ENTRIES[setting.path].origin.line
    assert line is not None
    found: list[str] = []
    for text in reversed(LINES[: line - 1]):
        if not text.strip().startswith("#"):
            break
        found.insert(0, text.strip().removeprefix("#").strip())
    return " ".join(found)


def test_every_key_that_is_read_is_there_and_no_other() -> None:
    assert set(ENTRIES) == {setting.path for setting in SCHEMA}


@pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: group.path)
def test_what_is_read_whole_is_there_as_a_comment(group: Group) -> None:
    """An example would be a setting."""
    section, _, name = group.path.rpartition(".")
    assert f"\n  # {name}:\n  #   " in TEXT.partition(f"\n{section}:\n")[2].partition("\n\n")[0]


def test_the_file_says_what_holds_without_it() -> None:
    loaded = load_config(FILE, {}, FILE.parent)
    assert loaded.settings == Settings()
    assert loaded.unknown_keys == ()
    assert loaded.unread_keys == ()


@pytest.mark.parametrize("setting", SCHEMA, ids=lambda setting: setting.path)
def test_the_default_is_written_out(setting: Setting) -> None:
    written = ENTRIES[setting.path].value
    default = (
        setting.default.get_secret_value() if isinstance(setting.default, SecretStr) else setting.default
    )
    if default in (None, ""):
        assert written == ""
    elif setting.kind is Kind.BOOL:
        assert written == str(default).lower()
    elif setting.kind in {Kind.INT, Kind.FLOAT}:
        assert float(written) == default
    elif isinstance(default, tuple):
        assert written == ",".join(default)
    else:
        assert written == str(default)


@pytest.mark.parametrize("setting", SCHEMA, ids=lambda setting: setting.path)
def test_each_key_is_explained_with_its_unit(setting: Setting) -> None:
    comment = comment_above(setting)
    assert len(comment) >= 20, f"{setting.path} is not explained in {FILE}"
    assert len(setting.description) >= 20, f"{setting.attribute} has no docstring"
    for suffix, word in UNIT_WORDS.items():
        if setting.attribute[-1].endswith(suffix):
            assert word in comment
            assert word in setting.description
    if setting.live:
        assert "takes effect at once" in comment
    else:
        assert "takes effect at once" not in comment
    for variable in setting.env:
        assert variable in comment
    for path in (*setting.aliases, *(fallback.path for fallback in setting.fallbacks)):
        inner = path.removeprefix(setting.path.partition(".")[0] + ".")
        assert inner in comment, f"{path} also sets {setting.path}, but that is not said"


@pytest.mark.parametrize("setting", SCHEMA, ids=lambda setting: setting.path)
def test_each_key_is_used_or_said_not_to_be(setting: Setting) -> None:
    """By the name of its attribute."""
    used = re.search(rf"\.{setting.attribute[-1]}\b", SOURCE)
    assert (used is None) == ("Not used" in comment_above(setting))


def test_every_field_of_the_model_is_read_from_somewhere() -> None:
    def fields(model: type[BaseModel], way: str) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                missing += fields(inner, f"{way}.{name}")
            elif not any(isinstance(mark, Key | Group) for mark in field.metadata):
                missing.append(f"{way}.{name}")
            assert field.description, f"{way}.{name} has no docstring"
        return missing

    assert fields(Settings, "settings") == []


def test_paths_are_spelled_alike_everywhere() -> None:
    for setting in SCHEMA:
        assert re.fullmatch(r"[a-zA-Z]+(\.[a-zA-Z]+)+", setting.path)
        assert "{" not in "".join(setting.paths)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().etcd.root_path = "x"
