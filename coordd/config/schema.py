"""The settings model as a flat table: one `Setting` for each field that is read from a YAML path.

Derived from the model's annotations alone, so that reader, documentation check and `coordd config` cannot
disagree with it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from coordd.config.keys import Fallback, Group, Key, Role, is_secret, normalise
from coordd.config.settings import Settings


class Kind(Enum):
    """How the text of a setting is read."""

    BOOL = auto()
    INT = auto()
    FLOAT = auto()
    TEXT = auto()
    LIST = auto()


_KINDS: Mapping[type, Kind] = MappingProxyType(
    {bool: Kind.BOOL, int: Kind.INT, float: Kind.FLOAT, str: Kind.TEXT, Path: Kind.TEXT, SecretStr: Kind.TEXT}
)
_NAMES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.BOOL: "true or false",
        Kind.INT: "a whole number",
        Kind.FLOAT: "a number",
        Kind.TEXT: "a text",
        Kind.LIST: "one or more texts, as a list or separated by commas",
    }
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of the model.

    `attribute` is the way to it from `Settings`; `path` its YAML path; `names` the normalised item names that
    mean it (own path first, then aliases); `env_names` further ones that count in the environment only.
    `expected` describes the allowed values. A blank text stands for the default, unless `keeps_blank`.
    """

    attribute: tuple[str, ...]
    path: str
    aliases: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]
    env: tuple[str, ...]
    live: bool
    kind: Kind
    keeps_blank: bool
    secret: bool
    expected: str
    default: object
    description: str

    @property
    def name(self) -> str:
        """The normalised item name."""
        return normalise(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """Normalised item names of equal rank, own name first."""
        return (self.name, *map(normalise, self.aliases))

    @property
    def paths(self) -> tuple[str, ...]:
        """Every YAML path that is read for this setting, own path first."""
        return (self.path, *self.aliases, *(fallback.path for fallback in self.fallbacks))

    def value(self, settings: Settings) -> object:
        """The value of this setting in `settings`."""
        found: object = settings
        for step in self.attribute:
            found = getattr(found, step)
        return found


def _walk(model: type[BaseModel], attribute: tuple[str, ...], role: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        here = (*attribute, name)
        if any(isinstance(mark, Group) for mark in field.metadata):
            continue
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            named = next((mark.name for mark in field.metadata if isinstance(mark, Role)), role)
            yield from _walk(inner, here, named)
        else:
            key = next(mark for mark in field.metadata if isinstance(mark, Key))
            yield _setting(here, field, key, role)


def _setting(attribute: tuple[str, ...], field: FieldInfo, key: Key, role: str) -> Setting:
    def fill(path: str) -> str:
        return path.replace("{role}", role)

    plain, optional = _without_none(field.annotation)
    kind = _kind(plain)
    return Setting(
        attribute=attribute,
        path=fill(key.path),
        aliases=tuple(map(fill, key.aliases)),
        fallbacks=tuple(Fallback(fill(other.path), other.convert) for other in key.fallbacks),
        env=key.env,
        live=key.live,
        kind=kind,
        keeps_blank=not optional and (plain is str or kind is Kind.LIST),
        secret=plain is SecretStr or is_secret(fill(key.path)),
        expected=_expected(plain, kind, field),
        default=field.get_default(),
        description=" ".join((field.description or "").split()),
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:  # an annotation is any object
    if get_origin(annotation) in {Union, UnionType}:
        others = [part for part in get_args(annotation) if part is not NoneType]
        return others[0], len(others) < len(get_args(annotation))
    return annotation, False


def _kind(plain: Any) -> Kind:
    if get_origin(plain) is Literal:
        return _KINDS[type(get_args(plain)[0])]
    if get_origin(plain) is tuple:
        return Kind.LIST
    return _KINDS[plain]


def _expected(plain: Any, kind: Kind, field: FieldInfo) -> str:
    if get_origin(plain) is Literal:
        *others, last = (str(choice) for choice in get_args(plain))
        return f"{', '.join(others)} or {last}" if others else last
    least = next((mark.ge for mark in field.metadata if isinstance(mark, Ge)), None)
    most = next((mark.le for mark in field.metadata if isinstance(mark, Le)), None)
    if least is not None and most is not None:
        return f"{_NAMES[kind]} from {least} to {most}"
    if least is not None:
        return f"{_NAMES[kind]} of at least {least}"
    return _NAMES[kind]


SCHEMA: Final = tuple(_walk(Settings, (), ""))
"""Every setting, in the order of the model."""


def _groups(model: type[BaseModel], attribute: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Group]]:
    for name, field in model.model_fields.items():
        here = (*attribute, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _groups(field.annotation, here)
        yield from ((here, mark) for mark in field.metadata if isinstance(mark, Group))


GROUPS: Final[Mapping[tuple[str, ...], Group]] = MappingProxyType(dict(_groups(Settings, ())))
"""The way from `Settings` -> each field that is read from all keys below one path. Not in `SCHEMA`."""


def group_members(settings: Settings) -> dict[str, SecretStr]:
    """YAML path -> value of all that `settings` has in groups."""
    return {
        group.path_of(name): value
        for attribute, group in GROUPS.items()
        for name, value in cast("Mapping[str, SecretStr]", attrgetter(".".join(attribute))(settings)).items()
    }


BY_ATTRIBUTE: Final[Mapping[tuple[str, ...], Setting]] = MappingProxyType(
    {setting.attribute: setting for setting in SCHEMA}
)
READ_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {normalise(path): path for setting in SCHEMA for path in setting.paths}
)
"""Normalised item name -> YAML path, of everything that is read, aliases and fallbacks included."""

SECTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {path.partition(".")[0].lower(): path.partition(".")[0] for path in READ_PATHS.values()}
)
"""Lower-case name -> spelling of the top-level YAML sections that hold at least one setting."""

_DOTTED = tuple(path.lower() for path in READ_PATHS.values())
VALUE_PATHS: Final = frozenset(_DOTTED)
"""Lower-case YAML paths of everything that is read."""

SECTION_PATHS: Final = frozenset(
    ".".join(path.split(".")[:depth]) for path in _DOTTED for depth in range(1, path.count(".") + 1)
) | {group.path.lower() for group in GROUPS.values()}
"""Lower-case YAML paths of all mappings that hold something that is read, at any depth."""
