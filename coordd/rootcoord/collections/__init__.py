"""Collections, partitions and aliases: changes decided by pure functions from the tables and a request.

Each function says what to write, or refuses in Milvus' words. A change of several steps has one function
per step, and each decides upon the tables as they are then: after a takeover, or a conflict, the step is
asked for again, and what has been carried out already does no harm if it is once more.

| change | steps |
|---|---|
| CreateCollection | `define`, `existing`, `plan_begin`, `plan_finish`; undone by `plan_purge` |
| DropCollection | `plan_drop`, `plan_purge` |
| AlterCollection, AlterCollectionField, RenameCollection | `plan_alter`, `plan_alter_field`, `plan_rename` |
| CreatePartition | `plan_create_partition`, `plan_finish_partition`; undone by `plan_purge_partition` |
| DropPartition | `plan_drop_partition`, `plan_purge_partition` |
| CreateAlias, DropAlias, AlterAlias | `plan_create_alias`, `plan_drop_alias`, `plan_alter_alias` |

`define` and `existing` come before anything is taken for the new collection. `check_room`, which `define`
asks, is to be asked again with `plan_finish`: others may have come about meanwhile. `unfinished` tells a new
term what to complete and what to undo.

Where a request is answered differently from Milvus the module says so. In all of them: a name that metadata
could not hold is refused in the words of Milvus' proxy, which checks names before RootCoord sees them;
Milvus' RootCoord writes what it cannot read again.
"""

from coordd.rootcoord.collections.aliases import plan_alter_alias, plan_create_alias, plan_drop_alias
from coordd.rootcoord.collections.alteration import plan_alter, plan_alter_field, plan_rename
from coordd.rootcoord.collections.change import Change
from coordd.rootcoord.collections.creation import Placement, existing, plan_begin, plan_finish
from coordd.rootcoord.collections.definition import Definition, Limits, check_room, define, room_left
from coordd.rootcoord.collections.notices import altered_collection, watch_channels
from coordd.rootcoord.collections.partitions import (
    plan_create_partition,
    plan_drop_partition,
    plan_finish_partition,
    plan_purge_partition,
)
from coordd.rootcoord.collections.removal import Unfinished, plan_drop, plan_purge, unfinished

__all__ = [
    "Change",
    "Definition",
    "Limits",
    "Placement",
    "Unfinished",
    "altered_collection",
    "check_room",
    "define",
    "existing",
    "plan_alter",
    "plan_alter_alias",
    "plan_alter_field",
    "plan_begin",
    "plan_create_alias",
    "plan_create_partition",
    "plan_drop",
    "plan_drop_alias",
    "plan_drop_partition",
    "plan_finish",
    "plan_finish_partition",
    "plan_purge",
    "plan_purge_partition",
    "plan_rename",
    "room_left",
    "unfinished",
    "watch_channels",
]
