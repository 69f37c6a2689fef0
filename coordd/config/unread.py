"""Keys of a configuration that coordd does not read: Milvus' own ones, and misspelt ones.

`milvus_keys.txt` lists, for the sections that coordd reads in part, the keys that Milvus 2.2 to 2.6 has
there, so that an unmodified milvus.yaml raises no suspicion while `etcd.endpoint` does. Sections of Milvus
that coordd does not read at all (`queryNode:`) are passed over.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from coordd.config.errors import Origin, Source
from coordd.config.keys import normalise
from coordd.config.schema import GROUPS, READ_PATHS, SECTION_PATHS, SECTIONS, VALUE_PATHS
from coordd.config.sources import Layer
from coordd.config.yaml_source import Entry

_SIMILAR = 0.75  # of difflib's ratio; at 0.6 unrelated short keys are suggested


@dataclass(frozen=True, slots=True)
class UnreadKey:
    """A key that is written somewhere and not read.

    `known_to_milvus` tells Milvus' own settings from keys that nobody knows. A `section` is a key at the top.
    """

    key: str
    origin: Origin
    known_to_milvus: bool
    section: bool = False

    @property
    def suggestion(self) -> str | None:
        """The key that was meant, perhaps. Costs milliseconds."""
        if self.known_to_milvus:
            return None
        return _closest(self.key, _sections() if self.section else {**milvus_keys(), **READ_PATHS})

    def __str__(self) -> str:
        if self.known_to_milvus:
            return f"{self.origin}: {self.key} is a setting of Milvus that coordd does not read"
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{self.origin}: {self.key} is not known{hint}"


@cache
def milvus_keys() -> Mapping[str, str]:
    """Normalised name -> spelling of the keys that Milvus has in sections that coordd reads."""
    text = resources.files("coordd.config").joinpath("milvus_keys.txt").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return {normalise(line): line for line in lines if line and not line.startswith("#")}


@cache
def milvus_sections() -> frozenset[str]:
    """Lower-case names of all top-level sections of Milvus' files."""
    return frozenset(line.partition(".")[0].lower() for line in milvus_keys().values())


@cache
def _milvus_prefixes() -> tuple[str, ...]:
    """Normalised beginnings of the keys that Milvus hands on to a library, which knows the rest."""
    return tuple(name.removesuffix("*") for name in milvus_keys() if name.endswith("*"))


def _is_of_milvus(name: str) -> bool:
    return name in milvus_keys() or name.startswith(_milvus_prefixes())


def unread_keys(layers: Iterable[Layer]) -> tuple[UnreadKey, ...]:
    """The keys of files and etcd that lie in a section that coordd reads, and are not read.

    Of the environment only variables that begin with `COORDD_` count: all others may belong to anybody.
    """
    return tuple(found for layer in layers for found in _of_layer(layer))


def _of_layer(layer: Layer) -> Iterator[UnreadKey]:
    for name, entries in layer.entries.items():
        if name in READ_PATHS:
            continue
        for entry in entries:
            if _concerns_us(layer.source, entry) and not _is_inside(entry.key):
                yield UnreadKey(entry.key, entry.origin, known_to_milvus=_is_of_milvus(name))


def _concerns_us(source: Source, entry: Entry) -> bool:
    if source is Source.ENV:
        return entry.key.upper().startswith("COORDD_")
    dotted = entry.key.replace("/", ".").lower()
    if dotted in SECTION_PATHS:
        return False  # blank section, or reported as misplaced
    return dotted.partition(".")[0] in SECTIONS and "." in dotted


def _is_inside(key: str) -> bool:
    """Whether the key lies below a value, which is reported as misplaced, or in a group, which is read."""
    if any(group.member(key) is not None for group in GROUPS.values()):
        return True
    parts = key.lower().split(".")
    return any(".".join(parts[:depth]) in VALUE_PATHS for depth in range(1, len(parts)))


def _closest(key: str, known: Mapping[str, str]) -> str | None:
    """The spelling of the `known` name (normalised -> spelling) that is most like `key`."""
    close = difflib.get_close_matches(normalise(key), known, n=1, cutoff=_SIMILAR)
    return known[close[0]] if close else None


def _sections() -> Mapping[str, str]:
    return {section: section for section in milvus_sections()} | dict(SECTIONS)


def unknown_sections(layers: Iterable[Layer]) -> tuple[UnreadKey, ...]:
    """Top-level sections of files that neither coordd nor Milvus has, each once."""
    found: dict[str, UnreadKey] = {}
    known = _sections()
    for layer in layers:
        if layer.source is not Source.FILE:
            continue
        for entries in layer.entries.values():
            for entry in entries:
                top = entry.key.partition(".")[0]
                if top.lower() not in known and top not in found:
                    found[top] = UnreadKey(top, entry.origin, known_to_milvus=False, section=True)
    return tuple(found.values())
