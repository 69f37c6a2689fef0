"""Metadata as older versions of Milvus laid it out, made from what 2.3.5 has written.

Milvus 2.2, as `as_of_2_2` returns it:

- There are no databases: no `database/` keys, no database IDs in values. A collection lies under
  `root-coord/collection/<id>`, its alias under `root-coord/aliases/<alias>`.
- A grant's key names no database. Its ID is the hash of that key.
- The end of the timestamp window lies under `<kv>/tso/timestamp`.

And what 2.2 took over from 2.1 and before as it was:

- A collection with its fields and partitions inside its own value (`inline`).
- An alias under `root-coord/collection-alias/<alias>`, whose value is a CollectionInfo (`oldest_aliases`).

Users, roles, and the form of the history (`snapshots/<key>_ts<ts>`) are the same in all of them.

Source of truth: Milvus 2.2.3 and 2.3.5 internal/metastore/kv/rootcoord/{kv_catalog,rootcoord_constant}.go.
"""

from collections.abc import Collection, Mapping
from typing import Final

from coordd.meta.codecs import TOMBSTONE
from coordd.meta.keys import (
    NO_DB_ID,
    AliasKey,
    CollectionKey,
    FieldKey,
    GranteeIdKey,
    GranteeKey,
    IdKey,
    ParsedKey,
    PartitionKey,
    RoleKey,
    TimestampKey,
    UserKey,
    UserRoleKey,
)
from coordd.meta.layout import MetaLayout
from coordd.pb.etcd_meta_pb2 import AliasInfo, CollectionInfo, PartitionInfo, PartitionState
from coordd.pb.schema_pb2 import CollectionSchema, FieldSchema

LAYOUT: Final = MetaLayout("by-dev", "meta", "kv")
DEFAULT_DB_ID: Final = 1
DEFAULT_DATABASES: Final = ("default", "*")
SYSTEM_FIELDS: Final = 100
"""IDs below are the system's; they come last in a collection that was just made."""


def as_of_2_2(
    etcd: Mapping[str, bytes], *, inline: Collection[str] = (), oldest_aliases: Collection[str] = ()
) -> dict[str, bytes]:
    """What Milvus 2.2 would hold of the default database.

    `etcd`: all keys of a RootCoord of 2.3.5, with their history. `inline`: names of collections that are from
    before 2.1; of their history only the collection's own values are kept, each with the parts of today.
    `oldest_aliases`: names of aliases from before 2.1.
    """
    turned = _Turned(etcd, inline, oldest_aliases)
    old = turned.grants()
    for key, value in etcd.items():
        plain, ts = LAYOUT.parse_snapshot(key) or (key, None)
        parsed = LAYOUT.parse(plain)
        found = None if parsed is None else turned.turn(parsed, plain, value)
        if found is not None:
            old[found[0] if ts is None else LAYOUT.snapshot(found[0], ts)] = found[1]
    return old


def collection_id(etcd: Mapping[str, bytes], name: str) -> int:
    """ID of the collection of this name in the default database, whatever its state."""
    infos = _present(etcd, LAYOUT.collections_of(DEFAULT_DB_ID)).values()
    [found] = [info.ID for value in infos if (info := CollectionInfo.FromString(value)).schema.name == name]
    return found


def _present(etcd: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {
        key: value for key, value in sorted(etcd.items()) if key.startswith(prefix) and value != TOMBSTONE
    }


class _Turned:
    """Keys and values as they were before databases."""

    def __init__(
        self, etcd: Mapping[str, bytes], inline: Collection[str], oldest_aliases: Collection[str]
    ) -> None:
        self._etcd = etcd
        self._inline = {collection_id(etcd, name) for name in inline}
        self._oldest_aliases = oldest_aliases
        keys = (LAYOUT.parse(key) for key in etcd if key.startswith(LAYOUT.collections_of(DEFAULT_DB_ID)))
        self._kept = {key.collection_id for key in keys if isinstance(key, CollectionKey)}

    def turn(self, parsed: ParsedKey, key: str, value: bytes) -> tuple[str, bytes] | None:
        """The old key and value of one of today; None if there was none of the kind."""
        match parsed:
            case CollectionKey(db_id=db_id, collection_id=found) if db_id == DEFAULT_DB_ID:
                return LAYOUT.collection(NO_DB_ID, found), self._collection(found, value)
            case PartitionKey(collection_id=found) | FieldKey(collection_id=found):
                return (key, value) if found in self._kept - self._inline else None
            case AliasKey(db_id=db_id, alias=name) if db_id == DEFAULT_DB_ID:
                return self._alias(name, value)
            case TimestampKey():
                return LAYOUT.old_timestamp, value
            case UserKey() | RoleKey() | UserRoleKey() | IdKey():
                return key, value
        return None

    def grants(self) -> dict[str, bytes]:
        """The grants in the default database, with what is granted by each."""
        old: dict[str, bytes] = {}
        for key, value in self._etcd.items():
            parsed = LAYOUT.parse(key)
            if not isinstance(parsed, GranteeKey):
                continue
            db_name, _, name = parsed.object_name.partition(".")
            if db_name in DEFAULT_DATABASES:
                new_id = LAYOUT.new_grant_id(parsed.role, parsed.object_type, name)
                old[LAYOUT.grantee(parsed.role, parsed.object_type, name)] = new_id.encode()
                old |= self._privileges(value.decode(), new_id)
        return old

    def _privileges(self, grant_id: str, new_id: str) -> dict[str, bytes]:
        parsed = {key: LAYOUT.parse(key) for key in self._etcd}
        return {
            LAYOUT.grantee_id(new_id, one.privilege): self._etcd[key]
            for key, one in parsed.items()
            if isinstance(one, GranteeIdKey) and one.grant_id == grant_id
        }

    def _collection(self, found: int, value: bytes) -> bytes:
        if value == TOMBSTONE:
            return value
        info = CollectionInfo.FromString(value)
        info.db_id = NO_DB_ID
        if found in self._inline:
            info.schema.fields.extend(self._fields(found))
            for partition in self._partitions(found):
                info.partitionIDs.append(partition.partitionID)
                info.partitionNames.append(partition.partitionName)
                info.partition_created_timestamps.append(partition.partition_created_timestamp)
        return info.SerializeToString()

    def _fields(self, found: int) -> list[FieldSchema]:
        values = _present(self._etcd, LAYOUT.fields_of(found)).values()
        fields = [FieldSchema.FromString(value) for value in values]
        return sorted(fields, key=lambda field: (field.fieldID < SYSTEM_FIELDS, field.fieldID))

    def _partitions(self, found: int) -> list[PartitionInfo]:
        values = _present(self._etcd, LAYOUT.partitions_of(found)).values()
        partitions = [PartitionInfo.FromString(value) for value in values]
        created = [one for one in partitions if one.state == PartitionState.PartitionCreated]
        return sorted(created, key=lambda one: one.partitionID)

    def _alias(self, name: str, value: bytes) -> tuple[str, bytes]:
        oldest = name in self._oldest_aliases
        key = LAYOUT.oldest_alias(name) if oldest else LAYOUT.alias(NO_DB_ID, name)
        if value == TOMBSTONE:
            return key, value
        info = AliasInfo.FromString(value)
        if oldest:
            stored = CollectionInfo(ID=info.collection_id, schema=CollectionSchema(name=name))
            return key, stored.SerializeToString()
        info.db_id = NO_DB_ID
        return key, info.SerializeToString()
