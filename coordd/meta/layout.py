"""Where everything lies in etcd: keys built and parsed, relative to the configured root paths.

Prefixes end with `/`, so no family's range reaches into another's. (Milvus reads without the separator, and
so takes `collection-alias` for `collection` and database 1 for 10.) Legacy forms are built by the same
methods with database ID 0, or by the `old_` ones.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/rootcoord_constant.go, suffix_snapshot.go,
internal/util/sessionutil/session_util.go, internal/rootcoord/constrant.go; 2.2.3 for the old timestamp key.
"""

import hashlib
import posixpath
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from coordd.meta.keys import (
    MAX_ID,
    NO_DB_ID,
    AliasKey,
    CollectionKey,
    DatabaseKey,
    DdlMarkKey,
    FieldKey,
    FunctionKey,
    GranteeIdKey,
    GranteeKey,
    HeartbeatKey,
    HistoryKey,
    IdKey,
    ImportTaskKey,
    OfferKey,
    OldAliasKey,
    ParsedKey,
    PartitionKey,
    PrivilegeGroupKey,
    RoleKey,
    ServerIdCounterKey,
    SessionKey,
    SnapshotKey,
    StandbyReportKey,
    SwitchoverKey,
    TimestampKey,
    UserKey,
    UserRoleKey,
    epoch_text,
    is_clean_path,
    is_segment,
    parse_epoch,
    parse_id,
    parse_two_ids,
)

MAX_TS: Final = (1 << 64) - 1
SNAPSHOT_SEPARATOR: Final = "_ts"

_SESSION_WITH_ID: Final = re.compile(r"(.+)-(0|[1-9][0-9]*)", re.DOTALL)
_SNAPSHOT: Final = re.compile(r"(.+)_ts(0|[1-9][0-9]*)", re.DOTALL)
_COUNTER_NAME: Final = "id"


class MetaLayout:
    """All keys of one Milvus cluster. Immutable.

    `root_path`, `meta_sub_path`, `kv_sub_path`: `etcd.rootPath`, `etcd.metaSubPath`, `etcd.kvSubPath`.

    The `*_prefix` attributes are absolute and end with `/`; the methods return absolute keys and raise
    ValueError for a name or ID that such a key cannot carry (see `coordd.meta.keys`).
    """

    def __init__(self, root_path: str, meta_sub_path: str, kv_sub_path: str) -> None:
        self.root: Final = _join(root_path)
        self.meta: Final = _join(root_path, meta_sub_path)
        self.kv: Final = _join(root_path, kv_sub_path)
        self.session_prefix: Final = f"{self.meta}/session/"
        self.session_end: Final = f"{self.meta}/session0"
        self.server_id_counter: Final = f"{self.session_prefix}{_COUNTER_NAME}"
        self.coordination_prefix: Final = f"{self.meta}/session-coordd/"
        self.ddl_prefix: Final = f"{self.coordination_prefix}ddl/"
        self.heartbeat_prefix: Final = f"{self.coordination_prefix}heartbeat/"
        self.history_prefix: Final = f"{self.coordination_prefix}history/"
        self.offer_prefix: Final = f"{self.coordination_prefix}offer/"
        self.standby_prefix: Final = f"{self.coordination_prefix}standby/"
        self.switchover_prefix: Final = f"{self.coordination_prefix}switchover/"
        self.snapshot_prefix: Final = f"{self.meta}/snapshots/"
        self.import_task_prefix: Final = f"{self.meta}/importtask/"
        self.root_coord_prefix: Final = f"{self.meta}/root-coord/"
        self.database_prefix: Final = f"{self.root_coord_prefix}database/db-info/"
        self.collection_prefix: Final = f"{self.root_coord_prefix}database/collection-info/"
        self.alias_prefix: Final = f"{self.root_coord_prefix}database/aliases/"
        self.old_collection_prefix: Final = f"{self.root_coord_prefix}collection/"
        self.old_alias_prefix: Final = f"{self.root_coord_prefix}aliases/"
        self.oldest_alias_prefix: Final = f"{self.root_coord_prefix}collection-alias/"
        self.partition_prefix: Final = f"{self.root_coord_prefix}partitions/"
        self.field_prefix: Final = f"{self.root_coord_prefix}fields/"
        self.function_prefix: Final = f"{self.root_coord_prefix}functions/"
        self.privilege_group_prefix: Final = f"{self.root_coord_prefix}privilege-group/"
        self.user_prefix: Final = f"{self.root_coord_prefix}credential/users/"
        self.role_prefix: Final = f"{self.root_coord_prefix}credential/roles/"
        self.user_role_prefix: Final = f"{self.root_coord_prefix}credential/user-role-mapping/"
        self.grantee_prefix: Final = f"{self.root_coord_prefix}credential/grantee-privileges/"
        self.grantee_id_prefix: Final = f"{self.root_coord_prefix}credential/grantee-id/"
        self.window_prefix: Final = f"{self.kv}/gid/"
        self.timestamp: Final = f"{self.kv}/gid/timestamp"
        self.old_timestamp: Final = f"{self.kv}/tso/timestamp"
        self.id_window: Final = f"{self.kv}/gid/idTimestamp"
        self.query_coord_id_window: Final = f"{self.kv}/querycoord-id-allocator/idTimestamp"
        self._singles: Final[dict[str, ParsedKey]] = {
            self.server_id_counter: ServerIdCounterKey(),
            self.timestamp: TimestampKey(),
            self.old_timestamp: TimestampKey(old=True),
            self.id_window: IdKey(),
            self.query_coord_id_window: IdKey(query_coord=True),
        }
        self._builders: Final = self._make_builders()
        self._parsers: Final = self._make_parsers()

    def session(self, role: str, server_id: int | None = None) -> str:
        """The ACTIVE (or exclusive) key of a role, or the key of one of its processes."""
        name = _segment(role)
        if server_id is not None:
            return f"{self.session_prefix}{name}-{_id(server_id)}"
        if name == _COUNTER_NAME or _SESSION_WITH_ID.fullmatch(name):
            raise ValueError(f"{role!r} cannot be a role: its session key would read as another kind of key")
        return f"{self.session_prefix}{name}"

    def ddl(self, name: str) -> str:
        """The mark that each metadata change of one kind rewrites; `name` starts with the role."""
        return f"{self.ddl_prefix}{_segment(name)}"

    def heartbeat(self, role: str) -> str:
        """The heartbeat of the role's active replica."""
        return f"{self.heartbeat_prefix}{_segment(role)}"

    def history_of(self, role: str) -> str:
        """Prefix of the terms of one role."""
        return f"{self.history_prefix}{_segment(role)}/"

    def history(self, role: str, epoch: int) -> str:
        """One term of leadership."""
        return f"{self.history_of(role)}{epoch_text(epoch)}"

    def offer(self, role: str) -> str:
        """The active replica's search for an heir."""
        return f"{self.offer_prefix}{_segment(role)}"

    def standby_report(self, role: str, server_id: int) -> str:
        """How far one standby is."""
        return f"{self.standby_prefix}{_segment(role)}-{_id(server_id)}"

    def switchover(self, role: str) -> str:
        """An operator's request to move the role."""
        return f"{self.switchover_prefix}{_segment(role)}"

    def database(self, db_id: int) -> str:
        """etcd.DatabaseInfo of one database."""
        return f"{self.database_prefix}{_id(db_id)}"

    def collections_of(self, db_id: int) -> str:
        """Prefix of the collection keys of one database; 0: those from before databases."""
        return self.old_collection_prefix if db_id == NO_DB_ID else f"{self.collection_prefix}{_id(db_id)}/"

    def collection(self, db_id: int, collection_id: int) -> str:
        """etcd.CollectionInfo of one collection."""
        return f"{self.collections_of(db_id)}{_id(collection_id)}"

    def partitions_of(self, collection_id: int) -> str:
        """Prefix of a collection's partition keys."""
        return f"{self.partition_prefix}{_id(collection_id)}/"

    def partition(self, collection_id: int, partition_id: int) -> str:
        """etcd.PartitionInfo of one partition."""
        return f"{self.partitions_of(collection_id)}{_id(partition_id)}"

    def fields_of(self, collection_id: int) -> str:
        """Prefix of a collection's field keys."""
        return f"{self.field_prefix}{_id(collection_id)}/"

    def field(self, collection_id: int, field_id: int) -> str:
        """schema.FieldSchema of one field."""
        return f"{self.fields_of(collection_id)}{_id(field_id)}"

    def functions_of(self, collection_id: int) -> str:
        """Prefix of a collection's function keys (Milvus 2.5)."""
        return f"{self.function_prefix}{_id(collection_id)}/"

    def function(self, collection_id: int, function_id: int) -> str:
        """schema.FunctionSchema of one function (Milvus 2.5)."""
        return f"{self.functions_of(collection_id)}{_id(function_id)}"

    def alias(self, db_id: int, alias: str) -> str:
        """etcd.AliasInfo; database ID 0: the form from before databases."""
        if db_id == NO_DB_ID:
            return f"{self.old_alias_prefix}{_path(alias)}"
        return f"{self.alias_prefix}{_id(db_id)}/{_path(alias)}"

    def oldest_alias(self, alias: str) -> str:
        """The form from before Milvus 2.1, an etcd.CollectionInfo."""
        return f"{self.oldest_alias_prefix}{_path(alias)}"

    def user(self, user: str) -> str:
        """Credential JSON of a user."""
        return f"{self.user_prefix}{_path(user)}"

    def role(self, role: str) -> str:
        """A role exists if its (empty) key does."""
        return f"{self.role_prefix}{_segment(role)}"

    def user_role(self, user: str, role: str) -> str:
        """A user has a role if this (empty) key exists."""
        return f"{self.user_role_prefix}{_segment(user)}/{_segment(role)}"

    def grantee(self, role: str, object_type: str, object_name: str) -> str:
        """ID of the grant of a role on an object. `object_name`: `<db>.<object>`, or old: `<object>`."""
        return f"{self.grantee_prefix}{_segment(role)}/{_segment(object_type)}/{_segment(object_name)}"

    def grantee_id(self, grant_id: str, privilege: str) -> str:
        """Who granted the privilege in this grant."""
        return f"{self.grantee_id_prefix}{_segment(grant_id)}/{_segment(privilege)}"

    def new_grant_id(self, role: str, object_type: str, object_name: str) -> str:
        """Milvus' ID of a new grant: 16 hex digits out of the MD5 of its key relative to the meta root."""
        relative = self.grantee(role, object_type, object_name)[len(self.meta) + 1 :]
        return hashlib.md5(relative.encode(), usedforsecurity=False).hexdigest()[8:24]

    def privilege_group(self, name: str) -> str:
        """A privilege group (Milvus 2.5)."""
        return f"{self.privilege_group_prefix}{_path(name)}"

    def import_task(self, task_id: int) -> str:
        """data.ImportTaskInfo of one bulk insert."""
        return f"{self.import_task_prefix}{_id(task_id)}"

    def snapshots_of(self, key: str) -> str:
        """What all snapshots of a plain key start with; `<other key>_ts1` may start with it as well.

        Raises:
            ValueError: `key` does not lie below the meta root.
        """
        if not key.startswith(f"{self.meta}/"):
            raise ValueError(f"{key!r} does not lie below {self.meta!r}")
        return f"{self.snapshot_prefix}{key[len(self.meta) + 1 :]}{SNAPSHOT_SEPARATOR}"

    def snapshot(self, key: str, ts: int) -> str:
        """Snapshot key of the plain (absolute) `key` at hybrid time `ts`."""
        if not 0 <= ts <= MAX_TS:
            raise ValueError(f"not an unsigned 64-bit timestamp: {ts}")
        return f"{self.snapshots_of(key)}{ts}"

    def parse_snapshot(self, key: str) -> tuple[str, int] | None:
        """The absolute plain key and the timestamp of a snapshot key; None if it is none."""
        if not key.startswith(self.snapshot_prefix):
            return None
        parsed = _parse_snapshot(key[len(self.snapshot_prefix) :])
        return None if parsed is None else (f"{self.meta}/{parsed.key}", parsed.ts)

    def build(self, parsed: ParsedKey) -> str:
        """The key that `parse` takes apart into `parsed`.

        Raises:
            ValueError: a name or ID that the key cannot carry.
        """
        return self._builders[type(parsed)](*(getattr(parsed, field.name) for field in fields(parsed)))

    def parse(self, key: str) -> ParsedKey | None:
        """Take an absolute key apart; None for a key of no family, or one its family would not build."""
        single = self._singles.get(key)
        if single is not None:
            return single
        for prefix, parser in self._parsers:
            if key.startswith(prefix):
                return parser(key[len(prefix) :])
        return None

    def _make_builders(self) -> dict[type, Callable[..., str]]:
        return {
            ServerIdCounterKey: lambda: self.server_id_counter,
            SessionKey: self.session,
            DdlMarkKey: self.ddl,
            HeartbeatKey: self.heartbeat,
            HistoryKey: self.history,
            OfferKey: self.offer,
            StandbyReportKey: self.standby_report,
            SwitchoverKey: self.switchover,
            DatabaseKey: self.database,
            CollectionKey: self.collection,
            PartitionKey: self.partition,
            FieldKey: self.field,
            FunctionKey: self.function,
            AliasKey: self.alias,
            OldAliasKey: self.oldest_alias,
            UserKey: self.user,
            RoleKey: self.role,
            UserRoleKey: self.user_role,
            GranteeKey: self.grantee,
            GranteeIdKey: self.grantee_id,
            PrivilegeGroupKey: self.privilege_group,
            ImportTaskKey: self.import_task,
            SnapshotKey: lambda key, ts: self.snapshot(f"{self.meta}/{_path(key)}", ts),
            TimestampKey: lambda old: self.old_timestamp if old else self.timestamp,
            IdKey: lambda query_coord: self.query_coord_id_window if query_coord else self.id_window,
        }

    def _make_parsers(self) -> tuple[tuple[str, Callable[[str], ParsedKey | None]], ...]:
        return (
            (self.session_prefix, _parse_session),
            (self.ddl_prefix, lambda text: _with_segments(text, 1, DdlMarkKey)),
            (self.heartbeat_prefix, lambda text: _with_segments(text, 1, HeartbeatKey)),
            (self.history_prefix, _parse_history),
            (self.offer_prefix, lambda text: _with_segments(text, 1, OfferKey)),
            (self.standby_prefix, _parse_standby_report),
            (self.switchover_prefix, lambda text: _with_segments(text, 1, SwitchoverKey)),
            (self.database_prefix, lambda text: _with_id(text, DatabaseKey)),
            (self.collection_prefix, lambda text: _with_two_ids(text, _parse_collection)),
            (self.old_collection_prefix, lambda text: _with_id(text, lambda i: CollectionKey(NO_DB_ID, i))),
            (self.partition_prefix, lambda text: _with_two_ids(text, PartitionKey)),
            (self.field_prefix, lambda text: _with_two_ids(text, FieldKey)),
            (self.function_prefix, lambda text: _with_two_ids(text, FunctionKey)),
            (self.alias_prefix, _parse_alias),
            (self.old_alias_prefix, lambda text: _with_path(text, lambda alias: AliasKey(NO_DB_ID, alias))),
            (self.oldest_alias_prefix, lambda text: _with_path(text, OldAliasKey)),
            (self.user_prefix, lambda text: _with_path(text, UserKey)),
            (self.role_prefix, lambda text: _with_segments(text, 1, RoleKey)),
            (self.user_role_prefix, lambda text: _with_segments(text, 2, UserRoleKey)),
            (self.grantee_prefix, lambda text: _with_segments(text, 3, GranteeKey)),
            (self.grantee_id_prefix, lambda text: _with_segments(text, 2, GranteeIdKey)),
            (self.privilege_group_prefix, lambda text: _with_path(text, PrivilegeGroupKey)),
            (self.import_task_prefix, lambda text: _with_id(text, ImportTaskKey)),
            (self.snapshot_prefix, _parse_snapshot),
        )


def _join(*parts: str) -> str:
    """Go's path.Join: empty parts are left out, the rest is cleaned."""
    joined = "/".join(part for part in parts if part)
    if not joined:
        return ""
    cleaned = posixpath.normpath(joined)
    return f"/{cleaned.lstrip('/')}" if cleaned.startswith("//") else cleaned


def _id(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise ValueError(f"not an ID (0 to 2^63 - 1): {number}")
    return number


def _segment(name: str) -> str:
    if not is_segment(name):
        raise ValueError(f"{name!r} cannot be one part of a key")
    return name


def _path(name: str) -> str:
    if not is_clean_path(name):
        raise ValueError(f"{name!r} cannot end a key")
    return name


def _with_id(text: str, kind: Callable[[int], ParsedKey]) -> ParsedKey | None:
    number = parse_id(text)
    return None if number is None else kind(number)


def _with_two_ids(text: str, kind: Callable[[int, int], ParsedKey | None]) -> ParsedKey | None:
    numbers = parse_two_ids(text)
    return None if numbers is None else kind(*numbers)


def _with_segments(text: str, count: int, kind: Callable[..., ParsedKey]) -> ParsedKey | None:
    segments = text.split("/")
    return kind(*segments) if len(segments) == count and all(map(is_segment, segments)) else None


def _with_path(text: str, kind: Callable[[str], ParsedKey]) -> ParsedKey | None:
    return kind(text) if is_clean_path(text) else None


def _parse_collection(db_id: int, collection_id: int) -> CollectionKey | None:
    return None if db_id == NO_DB_ID else CollectionKey(db_id, collection_id)


def _parse_alias(text: str) -> AliasKey | None:
    db_text, _, alias = text.partition("/")
    db_id = parse_id(db_text)
    return AliasKey(db_id, alias) if db_id and is_clean_path(alias) else None


def _parse_session(text: str) -> SessionKey | None:
    if not is_segment(text):
        return None
    match = _SESSION_WITH_ID.fullmatch(text)
    if match is None:
        return SessionKey(text)
    server_id = parse_id(match[2])
    return None if server_id is None else SessionKey(match[1], server_id)


def _parse_history(text: str) -> HistoryKey | None:
    role, _, epoch_part = text.partition("/")
    epoch = parse_epoch(epoch_part)
    return None if epoch is None or not is_segment(role) else HistoryKey(role, epoch)


def _parse_standby_report(text: str) -> StandbyReportKey | None:
    match = _SESSION_WITH_ID.fullmatch(text)
    if match is None or not is_segment(match[1]):
        return None
    server_id = parse_id(match[2])
    return None if server_id is None else StandbyReportKey(match[1], server_id)


def _parse_snapshot(text: str) -> SnapshotKey | None:
    match = _SNAPSHOT.fullmatch(text)
    if match is None or not is_clean_path(match[1]) or (ts := int(match[2])) > MAX_TS:
        return None
    return SnapshotKey(match[1], ts)
