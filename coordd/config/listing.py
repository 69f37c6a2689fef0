"""Settings as lines of text for `coordd config show`. Secrets are masked."""

import json
import re
from typing import Final

from coordd.config.errors import Origin
from coordd.config.keys import shown
from coordd.config.load import LoadedConfig
from coordd.config.schema import SCHEMA, group_members
from coordd.config.settings import ROLE_ATTRIBUTES
from coordd.config.values import rendered

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
