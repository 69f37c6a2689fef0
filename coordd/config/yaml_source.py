"""One YAML file -> flat entries with line numbers.

Follows what Milvus' reader makes of a file: nested keys are joined with dots, a list becomes its parts joined
with commas, nothing after a colon is the empty text. Scalars keep the text that is written (`1.30` stays
`1.30`), so no type is guessed here. Aliases and merge keys (`<<`) work.

A key that occurs twice in one mapping is an error. Values that cannot be a setting (a list of mappings, an
unknown tag such as `!vault`) become entries with a `fault`: they matter only if somebody reads that key.
What looks like a secret inside a key is masked here (`shown_key`), since keys are told everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from coordd.config.errors import ConfigError, Origin, Problem, Source
from coordd.config.keys import shown_key

MAX_BYTES: Final = 8 << 20
MAX_DEPTH: Final = 100
"""Milvus' own file is nested 6 levels deep."""

MAX_ENTRIES: Final = 20_000
"""Milvus' own file has some 1000 entries; aliases of aliases could multiply a small file without end."""

_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = frozenset(
    _TAG + name
    for name in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map", "value", "merge")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One value as written: `key` in its own spelling; `fault` says why `value` can be no setting."""

    key: str
    value: str = field(repr=False)  # may be a secret
    origin: Origin
    fault: str | None = None


def read_yaml(path: Path) -> tuple[Entry, ...]:
    """All entries of one file, in its order.

    Raises:
        ConfigError: the file cannot be read (`unreadable`), is not YAML, or has a key twice; the message
            names file, line and reason.
    """
    name = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _wrong(name, None, f"cannot be read: {error.strerror or error}", unreadable=True) from error
    if len(raw) > MAX_BYTES:
        raise _wrong(name, None, f"is larger than {MAX_BYTES >> 20} MiB", unreadable=True)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _wrong(name, line, "is not UTF-8 text") from error
    return parse_yaml(text, name)


def _check_depth(text: str, name: str) -> None:
    """Refuse what is nested so deeply that the composer, which recurses in C, would overrun the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise _wrong(name, line, f"is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def parse_yaml(text: str, name: str) -> tuple[Entry, ...]:
    """As `read_yaml`, for the content of a file that is called `name` in messages."""
    loader = yaml.CSafeLoader(text)
    try:
        _check_depth(text, name)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        if mark and text[mark.index : mark.index + 1] == "\t":
            reason += " (a tab: indent with spaces)"
        raise _wrong(name, mark.line + 1 if mark else None, f"is not valid YAML: {reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _wrong(name, line, f"is not valid YAML: {error.reason}") from error
    finally:
        loader.dispose()
    if root is None or _is_null(root):
        return ()
    if not isinstance(root, yaml.MappingNode):
        raise _wrong(name, _line(root), "must hold sections such as `etcd:`, not a single value or list")
    entries: list[Entry] = []
    for entry in _Flattener(name).mapping(root, ""):
        entries.append(entry)
        if len(entries) > MAX_ENTRIES:
            raise _wrong(name, None, f"has more than {MAX_ENTRIES} entries")
    return tuple(entries)


class _Flattener:
    """Walks the nodes of one file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: set[int] = set()  # mappings that we are in, to find an alias inside its own anchor

    def mapping(self, node: yaml.MappingNode, prefix: str) -> Iterator[Entry]:
        if id(node) in self._open:
            raise _wrong(self._name, _line(node), "has an alias inside the value that it stands for")
        self._open.add(id(node))
        for key_node, key, value_node in self._pairs(node):
            yield from self._value(value_node, shown_key(prefix + key), _line(key_node))
        self._open.remove(id(node))

    def _value(self, node: yaml.Node, key: str, line: int) -> Iterator[Entry]:
        origin = Origin(Source.FILE, self._name, line, key)
        if node.tag not in _PLAIN_TAGS:
            yield Entry(key, "", origin, f"has the unknown YAML tag {node.tag.replace(_TAG, '!!')}")
        elif isinstance(node, yaml.MappingNode):
            yield from self.mapping(node, key + ".")
        elif isinstance(node, yaml.SequenceNode):
            parts = [_scalar(part) for part in node.value]
            known = [part for part in parts if part is not None]
            fault = None if len(known) == len(parts) else "is a list with parts that are not single values"
            yield Entry(key, ",".join(known), origin, fault)
        else:
            yield Entry(key, _scalar(node) or "", origin)

    def _pairs(self, node: yaml.MappingNode) -> list[tuple[yaml.Node, str, yaml.Node]]:
        """The pairs of a mapping, merge keys resolved: what is written here wins over what is merged."""
        own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.MappingNode] = []
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                merged.extend(self._merged(value_node))
                continue
            key = _scalar(key_node)
            if key is None:
                raise _wrong(self._name, _line(key_node), "has a key that is not a single value")
            if key in own:
                first = _line(own[key][0])
                reason = f"has the key {shown_key(key)} twice, first in line {first}"
                raise _wrong(self._name, _line(key_node), reason)
            own[key] = (key_node, value_node)
        for other in merged:
            if id(other) in self._open:
                raise _wrong(self._name, _line(other), "has an alias inside the value that it stands for")
            self._open.add(id(other))
            for key_node, key, value_node in self._pairs(other):
                own.setdefault(key, (key_node, value_node))
            self._open.remove(id(other))
        return [(key_node, key, value_node) for key, (key_node, value_node) in own.items()]

    def _merged(self, node: yaml.Node) -> list[yaml.MappingNode]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        mappings = [part for part in parts if isinstance(part, yaml.MappingNode)]
        if len(mappings) != len(parts):
            raise _wrong(self._name, _line(node), "merges (`<<`) something that is not a mapping")
        return mappings


def _scalar(node: yaml.Node) -> str | None:
    """The text of a single value, "" for null; None if it is a collection or has an unknown tag."""
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN_TAGS:
        return None
    return "" if _is_null(node) else str(node.value)


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == _TAG + "null")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _wrong(name: str, line: int | None, reason: str, *, unreadable: bool = False) -> ConfigError:
    return ConfigError([Problem("", Origin(Source.FILE, name, line), reason)], unreadable=unreadable)
