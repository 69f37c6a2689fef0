"""Settings as lines of text for `coordd config show`, and as Milvus' ShowConfigurations lists them.

Secrets are masked in both; Milvus shows them.

Source of truth for ShowConfigurations: Milvus 2.3.5 pkg/util/paramtable/component_param.go
(GetComponentConfigurations), pkg/config/manager.go.
"""

import json
import re
from typing import Final

from coordd.config.errors import Origin
from coordd.config.keys import shown
from coordd.config.load import LoadedConfig
from coordd.config.schema import SCHEMA, group_members
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
        text = rendered(setting, setting.value(loaded.settings))
        lines.append(_line(setting.path, text, loaded.origins[setting.name] if origin else None))
    for path, value in group_members(loaded.settings).items():
        text = shown(path, value.get_secret_value())  # all are kept as secrets, few are any
        lines.append(_line(path, text, loaded.member_origins[path] if origin else None))
    return lines


def _line(path: str, text: str, origin: Origin | None) -> str:
    line = f"{path}: {_yaml(text)}".rstrip()
    return line if origin is None else f"{line:<{_ORIGIN_COLUMN}} # {origin}"


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
