"""What changed between two configurations, and which of it may take effect while the process runs.

Pure. Settings marked `live` take effect at once, all others, and whatever is read in groups, at the next
start.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, SecretStr

from coordd.config.errors import DEFAULT_ORIGIN, Origin
from coordd.config.keys import shown
from coordd.config.load import LoadedConfig
from coordd.config.schema import SCHEMA, Setting, group_members
from coordd.config.settings import Settings
from coordd.config.values import rendered

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting whose value differs; `old` and `new` are its typed values."""

    setting: Setting
    old: object
    new: object
    origin: Origin

    @property
    def key(self) -> str:
        """The YAML path."""
        return self.setting.path

    def __str__(self) -> str:
        old, new = rendered(self.setting, self.old), rendered(self.setting, self.new)
        return f'{self.key}: "{old}" -> "{new}" ({self.origin})'


def diff(old: Settings, new: LoadedConfig) -> tuple[Change, ...]:
    """All settings in which `new` differs from `old`, live or not, in the order of the model."""
    return tuple(
        Change(setting, before, after, new.origins[setting.name])
        for setting in SCHEMA
        if (before := setting.value(old)) != (after := setting.value(new.settings))
    )


@dataclass(frozen=True, slots=True)
class MemberChange:
    """One member of a group that is new, gone or different; `old` and `new` are as they may be shown, "" for
    none. `origin` is the default's if it is gone.
    """

    key: str
    old: str
    new: str
    origin: Origin

    def __str__(self) -> str:
        return f'{self.key}: "{self.old}" -> "{self.new}" ({self.origin})'


def member_diff(old: Settings, new: LoadedConfig) -> tuple[MemberChange, ...]:
    """All members of groups in which `new` differs from `old`, by name."""
    before, after = group_members(old), group_members(new.settings)
    return tuple(
        MemberChange(
            key,
            _member_shown(key, before),
            _member_shown(key, after),
            new.member_origins.get(key, DEFAULT_ORIGIN),
        )
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


def _member_shown(key: str, members: Mapping[str, SecretStr]) -> str:
    return shown(key, members[key].get_secret_value()) if key in members else ""


def apply_live(settings: Settings, changes: Iterable[Change]) -> Settings:
    """`settings` with the live ones of `changes` made; the others keep their value."""
    for change in changes:
        if change.setting.live:
            settings = _replaced(settings, change.setting.attribute, change.new)
    return settings


def _replaced(model: _Model, attribute: tuple[str, ...], value: object) -> _Model:
    head, *rest = attribute
    if rest:
        value = _replaced(getattr(model, head), tuple(rest), value)
    return model.model_copy(update={head: value})
