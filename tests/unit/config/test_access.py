"""Settings about users and roles: limits, and the roles of `builtinRoles`."""

import json
from typing import Any

import pytest

from coordd.config import ConfigError
from coordd.config.access import BuiltinGrant
from tests.unit.config.support import Directory

SEARCH = {"object_type": "Collection", "object_name": "*", "privilege": "Search", "db_name": "books"}


def roles(directory: Directory, value: Any, *, enable: bool = True) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    document = json.dumps({"builtinRoles": {"enable": enable, "roles": text}})
    return directory.load(document).settings.builtin_roles.grants()


def test_limits(directory: Directory) -> None:
    loaded = directory.load("proxy: {maxUserNum: 7, maxRoleNum: 5, port: 19530}\n")
    assert (loaded.settings.proxy.max_user_num, loaded.settings.proxy.max_role_num) == (7, 5)
    assert loaded.unknown_keys == ()


def test_roles_are_read(directory: Directory) -> None:
    found = roles(directory, {"reader": {"privileges": [SEARCH, {"privilege": "Query"}]}, "idle": {}})
    assert found == {
        "reader": (BuiltinGrant("Collection", "*", "Search", "books"), BuiltinGrant("", "", "Query", "")),
        "idle": (),
    }


def test_they_count_only_if_enabled(directory: Directory) -> None:
    assert roles(directory, {"reader": {"privileges": [SEARCH]}}, enable=False) == {}
    assert roles(directory, "{nonsense", enable=False) == {}


@pytest.mark.parametrize(
    "value",
    ["{nonsense", "[]", {"r": []}, {"r": {"privileges": {}}}, {"r": {"privileges": ["Search"]}}, {"a/b": {}},
     {"r": {"privileges": [{"privilege": 7}]}}],
)  # fmt: skip
def test_what_cannot_be_read_is_an_error(directory: Directory, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"builtinRoles\.roles"):
        roles(directory, value)
