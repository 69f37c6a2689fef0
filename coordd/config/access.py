"""Settings of proxies that RootCoord keeps to, most of them about users and roles, and `builtinRoles`.

Source of truth: Milvus 2.3.5 pkg/util/paramtable/component_param.go and role_param.go.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, model_validator

from coordd.config.keys import Key
from coordd.config.sections import Milliseconds, Section


@dataclass(frozen=True, slots=True)
class BuiltinGrant:
    """A privilege of a built-in role, in the words of the configuration (`Search`, not `PrivilegeSearch`)."""

    object_type: str
    object_name: str
    privilege: str
    db_name: str


class ProxySettings(Section):
    """The part of the proxies' settings that coordinators keep."""

    max_shard_num: Annotated[int, Field(ge=1), Key("proxy.maxShardNum", live=True)] = 16
    """Most shards that a collection may have; `rootCoord.dmlChannelNum` is a bound, too."""
    max_user_num: Annotated[int, Field(ge=1), Key("proxy.maxUserNum", live=True)] = 100
    """Most users that may be there, `root` included. Milvus' bound: proxies keep all of them in memory."""
    max_role_num: Annotated[int, Field(ge=1), Key("proxy.maxRoleNum", live=True)] = 10
    """Most roles that may be there, `admin` and `public` included. Milvus' bound, too."""
    time_tick_interval_ms: Annotated[Milliseconds, Key("proxy.timeTickInterval")] = 200
    """How often proxies report how far they are, and RootCoord sends time ticks at least, milliseconds. How
    long a strongly consistent search waits follows from it.
    """


class BuiltinRolesSettings(Section):
    """Roles that are made when a term begins and cannot be dropped."""

    enable: Annotated[bool, Key("builtinRoles.enable")] = False
    """Whether `roles` are made."""
    roles: Annotated[str, Key("builtinRoles.roles")] = "{}"
    """The roles, as one JSON text (not as YAML sections, which Milvus does not read either):
    `{"reader": {"privileges": [{"object_type": "Collection", "object_name": "*", "privilege": "Search",
    "db_name": "*"}]}}`. No `db_name` means the default database. Privileges that are missing are granted
    anew by each term; none is taken away.
    """

    @model_validator(mode="after")
    def _readable(self) -> "BuiltinRolesSettings":
        if self.enable:
            self.grants()
        return self

    def grants(self) -> Mapping[str, tuple[BuiltinGrant, ...]]:
        """The privileges of each built-in role, by role; empty unless enabled.

        Raises:
            ValueError: `roles` is not of that form; cannot be in checked settings.
        """
        return _parse(self.roles) if self.enable else {}


def _parse(text: str) -> dict[str, tuple[BuiltinGrant, ...]]:
    try:
        roles: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"builtinRoles.roles must be JSON: {error}") from error
    if not isinstance(roles, dict):
        raise ValueError("builtinRoles.roles must be a JSON object of roles")  # noqa: TRY004
    return {role: tuple(_grant(role, grant) for grant in _privileges(role, roles[role])) for role in roles}


def _privileges(role: str, details: Any) -> list[Any]:
    privileges = details.get("privileges", []) if isinstance(details, dict) else None
    if not role or "/" in role or role in (".", "..") or not isinstance(privileges, list):
        raise ValueError(f'builtinRoles.roles: role {role!r} must be like {{"privileges": [...]}}')
    return privileges


def _grant(role: str, grant: Any) -> BuiltinGrant:
    names = ("object_type", "object_name", "privilege", "db_name")
    if not isinstance(grant, dict) or not all(isinstance(grant.get(name, ""), str) for name in names):
        raise ValueError(f"builtinRoles.roles: a privilege of role {role!r} is not an object of texts")
    return BuiltinGrant(*(grant.get(name, "") for name in names))
