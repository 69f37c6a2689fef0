"""Layers of entries -> one value for each setting, with its origin; everything that is wrong is collected.

Pure. A higher layer wins over a lower one, also when it says nothing (a blank value): then the default
holds, or, for a setting with fallback keys, those are asked. Each file is a layer of its own, so that
`user.yaml` may use another spelling of a switch than `milvus.yaml`; two spellings that disagree within one
layer are an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from coordd.config.errors import DEFAULT_ORIGIN, ConfigError, Origin, Problem, Source
from coordd.config.keys import Group, normalise
from coordd.config.schema import BY_ATTRIBUTE, GROUPS, SCHEMA, SECTION_PATHS, VALUE_PATHS, Setting
from coordd.config.settings import Settings
from coordd.config.sources import Layer
from coordd.config.values import WrongValueError, parse, quoted
from coordd.config.yaml_source import Entry


@dataclass(frozen=True, slots=True)
class Resolved:
    """Checked settings, and for each setting's normalised name the place that decided it.

    `member_origins`: the same for what is read in groups, by YAML path.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    member_origins: Mapping[str, Origin]


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Settings from `layers`, lowest precedence first.

    Raises:
        ConfigError: names every wrong value, not only the first.
    """
    problems = [problem for layer in layers for problem in _misplaced(layer)]
    chosen: dict[Setting, Entry] = {}
    tree: dict[str, Any] = {}
    failed: set[tuple[str, ...]] = set()
    member_origins: dict[str, Origin] = {}
    for setting in SCHEMA:
        entry = _winner(setting, layers, problems)
        if entry is None:
            continue
        chosen[setting] = entry
        try:
            _put(tree, setting.attribute, _parsed(setting, entry))
        except WrongValueError as error:
            failed.add(setting.attribute)
            problems.append(Problem(entry.key, entry.origin, str(error)))
    for attribute, group in GROUPS.items():
        members = _members(group, layers)
        problems.extend(Problem(e.key, e.origin, e.fault) for e in members.values() if e.fault)
        _put(tree, attribute, {name: entry.value for name, entry in members.items()})
        member_origins |= {group.path_of(name): entry.origin for name, entry in members.items()}
    origins = {
        setting.name: chosen[setting].origin if setting in chosen else DEFAULT_ORIGIN for setting in SCHEMA
    }
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems.extend(_from_pydantic(error, chosen, failed))
        raise ConfigError(_ordered(problems)) from error
    if problems:
        raise ConfigError(_ordered(problems))
    return Resolved(settings, origins, member_origins)


def _winner(setting: Setting, layers: Sequence[Layer], problems: list[Problem]) -> Entry | None:
    """The entry that decides `setting`; None if the default holds."""
    for layer in reversed(layers):
        names = setting.names
        if layer.source is Source.ENV:
            names = (*names, *map(normalise, setting.env))
        found = layer.find(names)
        if found:
            telling = [entry for entry in found if entry.fault or entry.value.strip()]
            problems.extend(_contradictions(setting, telling))
            if telling:
                return telling[0]
            return _fallback(setting, layers) or (found[0] if setting.keeps_blank else None)
    return _fallback(setting, layers)


def _members(group: Group, layers: Sequence[Layer]) -> dict[str, Entry]:
    """What lies below the path of `group`: the highest layer wins, and a blank value takes a member away."""
    found: dict[str, Entry] = {}
    for layer in layers:
        if layer.source is not Source.ENV:
            for entry in (entry for entries in layer.entries.values() for entry in entries):
                name = group.member(entry.key)
                if name is not None:
                    found[name] = entry
    return {name: entry for name, entry in found.items() if entry.fault or entry.value.strip()}


def _fallback(setting: Setting, layers: Sequence[Layer]) -> Entry | None:
    for other in setting.fallbacks:
        for layer in reversed(layers):
            for entry in layer.find((normalise(other.path),)):
                text = other.convert(entry.value) if other.convert else entry.value
                if entry.fault or text.strip():
                    return Entry(entry.key, text, entry.origin, entry.fault)
    return None


def _contradictions(setting: Setting, entries: Sequence[Entry]) -> Iterator[Problem]:
    for other in entries[1:]:
        first = entries[0]
        if _comparable(setting, other) != _comparable(setting, first):
            yield Problem(
                other.key,
                other.origin,
                f"is {quoted(setting, other.value)}, but {first.key} ({first.origin}) is"
                f" {quoted(setting, first.value)}, and both mean {setting.path}: remove one of them",
            )


def _comparable(setting: Setting, entry: Entry) -> object:
    try:
        return parse(setting, entry.value)
    except WrongValueError:
        return entry.value


def _parsed(setting: Setting, entry: Entry) -> object:
    if entry.fault:
        raise WrongValueError(entry.fault)
    try:
        return parse(setting, entry.value)
    except WrongValueError as error:
        raise WrongValueError(f"{error}, not {quoted(setting, entry.value)}") from error


def _put(tree: dict[str, Any], attribute: tuple[str, ...], value: object) -> None:
    for step in attribute[:-1]:
        tree = tree.setdefault(step, {})
    tree[attribute[-1]] = value


def _misplaced(layer: Layer) -> Iterator[Problem]:
    """Single values where a section belongs, and sections where a single value belongs."""
    if layer.source is not Source.FILE:
        return
    for entries in layer.entries.values():
        for entry in entries:
            dotted = entry.key.lower()
            if dotted in SECTION_PATHS and (entry.value or entry.fault):
                reason = entry.fault or "is a section, it takes no value of its own"
                yield Problem(entry.key, entry.origin, reason)
            parts = entry.key.split(".")
            for depth in range(1, len(parts)):
                if ".".join(parts[:depth]).lower() in VALUE_PATHS:
                    outer = ".".join(parts[:depth])
                    yield Problem(
                        outer, entry.origin, f"takes a single value, not a section (.{parts[depth]})"
                    )


def _from_pydantic(
    error: ValidationError, chosen: Mapping[Setting, Entry], failed: set[tuple[str, ...]]
) -> Iterator[Problem]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        where = tuple(step for step in detail["loc"] if isinstance(step, str))
        setting = BY_ATTRIBUTE.get(where)
        if setting is not None:
            entry = chosen.get(setting) or Entry(setting.path, "", DEFAULT_ORIGIN)
            reason = f"must be {setting.expected}"
            if detail["type"] == "value_error":
                reason = detail["msg"].removeprefix("Value error, ")
            found = f", not {quoted(setting, entry.value)}" if entry.value.strip() else ""
            yield Problem(entry.key, entry.origin, f"{reason}{found}")
        elif not any(attribute[: len(where)] == where for attribute in failed):
            for reason in detail["msg"].removeprefix("Value error, ").split("; "):
                yield _rule_broken(reason, chosen)


def _rule_broken(reason: str, chosen: Mapping[Setting, Entry]) -> Problem:
    """A rule between settings: say where each setting that it names was set."""
    named = [setting for setting in SCHEMA if setting.path in reason]
    places = [
        f"{setting.path} from {chosen[setting].origin}" if setting in chosen else f"{setting.path} by default"
        for setting in named
    ]
    origin = next((chosen[setting].origin for setting in named if setting in chosen), DEFAULT_ORIGIN)
    return Problem("", origin, f"{reason} ({', '.join(places)})")


def _ordered(problems: Sequence[Problem]) -> list[Problem]:
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (problem.origin.file or "", problem.origin.line or 0))
