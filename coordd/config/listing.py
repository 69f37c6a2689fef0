"""Settings as lines of text for `coordd config show`, and as Milvus' ShowConfigurations lists them.

Secrets are masked in both; Milvus shows them.

Source of truth for ShowConfigurations: Milvus 2.3.5 pkg/util/paramtable/component_param.go
(GetComponentConfigurations), pkg/config/manager.go.
"""

import json
import re
from collections.abc import Mapping
from operator import attrgetter
from typing import Final, cast

from pydantic import SecretStr

from coordd.config.keys import shown
from coordd.config.load import LoadedConfig
from coordd.config.schema import GROUPS, SCHEMA
from coordd.config.settings import ROLE_ATTRIBUTES
from coordd.config.values import rendered

_SHARED_PREFIXES: Final = (
    "metastore", "localstorage", "etcd", "tikv", "minio", "pulsar", "kafka", "rocksmq", "log", "grpc",
    "common", "quotaandlimits",
)  # fmt: skip
_PLAIN_YAML: Final = re.compile(r"[\w./+@-][\w./:+,@-]*")
_ORIGIN_COLUMN: Final = 60


def setting_lines(loaded: LoadedConfig, *, origin: bool = False, role: str | None = None) -> list[str]:
    """One line `path: value` for each setting, as YAML would have it; with `origin` followed by its place.

    `role` (rootcoord, datacoord, querycoord) leaves out the sections of the other roles.
    """
    others = {attribute for name, attribute in ROLE_ATTRIBUTES.items() if role not in {None, name}}
    lines = []
    for setting in SCHEMA:
        if setting.attribute[0] in others:
            continue
        line = f"{setting.path}: {_yaml(rendered(setting, setting.value(loaded.settings)))}".rstrip()
        if origin:
            line = f"{line:<{_ORIGIN_COLUMN}} # {loaded.origins[setting.name]}"
        lines.append(line)
    return lines + _group_lines(loaded)


def _group_lines(loaded: LoadedConfig) -> list[str]:
    """One line for each member of what is read whole; all of them are kept as secrets, few are any."""
    lines = []
    for attribute, group in GROUPS.items():
        members = cast("Mapping[str, SecretStr]", attrgetter(".".join(attribute))(loaded.settings))
        for name, value in members.items():
            path = f"{group.path}.{name}"
            lines.append(f"{path}: {_yaml(shown(path, value.get_secret_value()))}")
    return lines


def _yaml(text: str) -> str:
    return text if not text or _PLAIN_YAML.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def component_configurations(loaded: LoadedConfig, role: str, pattern: str = "") -> dict[str, str]:
    """What ShowConfigurations of `role` answers: every item of the sources under each of its names.

    Only names that contain `pattern` (case does not matter) and belong to the role or to what all roles
    share. As in Milvus, settings that no source mentions are not listed.
    """
    prefixes = (*_SHARED_PREFIXES, f"{role}.")
    wanted = pattern.lower()
    return {
        spelling: value
        for name, value in loaded.items.items()
        for spelling in (name, *loaded.spellings.get(name, ()))
        if wanted in spelling and spelling.startswith(prefixes)
    }
