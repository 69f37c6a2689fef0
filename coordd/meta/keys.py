"""Metadata keys taken apart: one type per key family, with the parts that the key's name carries.

`MetaLayout.build` and `MetaLayout.parse` turn them into keys and back. IDs are non-negative int64; names are
as in Milvus, which leaves their check to the proxy: the only names refused here are those that could not be
told apart from another key (`/` where a further part follows), or that Go's path.Join would rewrite.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/rootcoord_constant.go, kv_catalog.go.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_ID: Final = (1 << 63) - 1

EPOCH_DIGITS: Final = 20

NO_DB_ID: Final = 0
"""In a key: written before Milvus 2.3, when there were no databases. Shown in the default database."""


@dataclass(frozen=True, slots=True)
class ServerIdCounterKey:
    """`session/id`: decimal text, the next free server ID."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """`session/<role>` (the ACTIVE key, `server_id` None) or `session/<role>-<serverID>`: session JSON."""

    role: str
    server_id: int | None = None


@dataclass(frozen=True, slots=True)
class DdlMarkKey:
    """`session-coordd/ddl/<name>`: timestamp of the latest metadata change of one kind; coordd's own, like
    the five that follow.
    """

    name: str


@dataclass(frozen=True, slots=True)
class HeartbeatKey:
    """`session-coordd/heartbeat/<role>`."""

    role: str


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """`session-coordd/history/<role>/<epoch, 20 digits>`: JSON of one term; in key order the oldest first."""

    role: str
    epoch: int


@dataclass(frozen=True, slots=True)
class OfferKey:
    """`session-coordd/offer/<role>`: JSON by which the active replica asks for an heir."""

    role: str


@dataclass(frozen=True, slots=True)
class StandbyReportKey:
    """`session-coordd/standby/<role>-<serverID>`: JSON by which a standby says how far its tables are."""

    role: str
    server_id: int


@dataclass(frozen=True, slots=True)
class SwitchoverKey:
    """`session-coordd/switchover/<role>`: JSON of an operator's request to move the leadership."""

    role: str


@dataclass(frozen=True, slots=True)
class DatabaseKey:
    """`root-coord/database/db-info/<dbID>`: etcd.DatabaseInfo."""

    db_id: int


@dataclass(frozen=True, slots=True)
class CollectionKey:
    """`root-coord/database/collection-info/<dbID>/<collID>`, db_id 0: `root-coord/collection/<collID>`."""

    db_id: int
    collection_id: int


@dataclass(frozen=True, slots=True)
class PartitionKey:
    """`root-coord/partitions/<collID>/<partID>`: etcd.PartitionInfo."""

    collection_id: int
    partition_id: int


@dataclass(frozen=True, slots=True)
class FieldKey:
    """`root-coord/fields/<collID>/<fieldID>`: schema.FieldSchema."""

    collection_id: int
    field_id: int


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """`root-coord/functions/<collID>/<functionID>` (Milvus 2.5): schema.FunctionSchema."""

    collection_id: int
    function_id: int


@dataclass(frozen=True, slots=True)
class AliasKey:
    """`root-coord/database/aliases/<dbID>/<alias>`, db_id 0: `root-coord/aliases/<alias>`; etcd.AliasInfo."""

    db_id: int
    alias: str


@dataclass(frozen=True, slots=True)
class OldAliasKey:
    """`root-coord/collection-alias/<alias>` (before Milvus 2.1): etcd.CollectionInfo."""

    alias: str


@dataclass(frozen=True, slots=True)
class UserKey:
    """`root-coord/credential/users/<user>`: credential JSON."""

    user: str


@dataclass(frozen=True, slots=True)
class RoleKey:
    """`root-coord/credential/roles/<role>`: empty."""

    role: str


@dataclass(frozen=True, slots=True)
class UserRoleKey:
    """`root-coord/credential/user-role-mapping/<user>/<role>`: empty."""

    user: str
    role: str


@dataclass(frozen=True, slots=True)
class GranteeKey:
    """`root-coord/credential/grantee-privileges/<role>/<ObjectType>/<db>.<object>`: a grant ID.

    `object_name` holds the last part whole; keys from before Milvus 2.3 have no `<db>.` in it.
    """

    role: str
    object_type: str
    object_name: str


@dataclass(frozen=True, slots=True)
class GranteeIdKey:
    """`root-coord/credential/grantee-id/<grantID>/<Privilege>`: the grantor's user name."""

    grant_id: str
    privilege: str


@dataclass(frozen=True, slots=True)
class PrivilegeGroupKey:
    """`root-coord/privilege-group/<name>` (Milvus 2.5): milvus.PrivilegeGroupInfo."""

    name: str


@dataclass(frozen=True, slots=True)
class ImportTaskKey:
    """`importtask/<taskID>`: data.ImportTaskInfo."""

    task_id: int


@dataclass(frozen=True, slots=True)
class SnapshotKey:
    """`snapshots/<key>_ts<ts>`: the value that `key` (relative to the meta root) got at hybrid time `ts`."""

    key: str
    ts: int


@dataclass(frozen=True, slots=True)
class TimestampKey:
    """`<kv>/gid/timestamp`, before Milvus 2.3 `<kv>/tso/timestamp`: saved end of the timestamp window."""

    old: bool = False


@dataclass(frozen=True, slots=True)
class IdKey:
    """`<kv>/gid/idTimestamp`: saved end of the ID window; with `query_coord` that of QueryCoord's own IDs."""

    query_coord: bool = False


ParsedKey: TypeAlias = (
    ServerIdCounterKey
    | SessionKey
    | DdlMarkKey
    | HeartbeatKey
    | HistoryKey
    | OfferKey
    | StandbyReportKey
    | SwitchoverKey
    | DatabaseKey
    | CollectionKey
    | PartitionKey
    | FieldKey
    | FunctionKey
    | AliasKey
    | OldAliasKey
    | UserKey
    | RoleKey
    | UserRoleKey
    | GranteeKey
    | GranteeIdKey
    | PrivilegeGroupKey
    | ImportTaskKey
    | SnapshotKey
    | TimestampKey
    | IdKey
)


def parse_id(text: str) -> int | None:
    """An ID as Milvus prints it: decimal digits without leading zeros, below 2^63. None for all else."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def parse_epoch(text: str) -> int | None:
    """An epoch as `epoch_text` prints it, below 2^63. None for all else."""
    if len(text) != EPOCH_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def epoch_text(epoch: int) -> str:
    """Twenty decimal digits, so that keys sort as their epochs do.

    Raises:
        ValueError: not a revision (0 to 2^63 - 1).
    """
    if not 0 <= epoch <= MAX_ID:
        raise ValueError(f"not a revision (0 to 2^63 - 1): {epoch}")
    return f"{epoch:0{EPOCH_DIGITS}d}"


def parse_two_ids(text: str) -> tuple[int, int] | None:
    """Two IDs with one `/` between them."""
    first_text, _, second_text = text.partition("/")
    first, second = parse_id(first_text), parse_id(second_text)
    return None if first is None or second is None else (first, second)


def is_segment(text: str) -> bool:
    """Whether `text` can be one part of a key: not empty, no `/`, and not `.` or `..`."""
    return text not in ("", ".", "..") and "/" not in text


def is_clean_path(text: str) -> bool:
    """Whether `text` can be the rest of a key: `/` is allowed, as long as path.Join would leave it alone."""
    if "/" not in text and "." not in text:
        return text != ""
    return all(map(is_segment, text.split("/")))
