"""What earlier terms changed last, told to the proxies once more when a term begins.

A term may end between a change and the news of it. The caller then repeats the call, which tells the proxies
again; but it may have ended as well. So a new term has them forget every collection and alias that was
changed lately, as far as this process followed it (`Fold.recent_keys`); a proxy that does not answer is
barred by that as by any news. To forget something twice, or without need, costs a proxy one question, which
comes when all else comes, too. So of what was changed long before the last term ended nothing is said: by
then they were told, or barred on record (`WindowTable.long_ago`).

Not promised: that a proxy gets no timestamps before it has been told. For that its caller would have to wait.
"""

from collections.abc import Iterable, Sequence

from coordd.log import get_logger
from coordd.meta.keys import AliasKey, CollectionKey, FieldKey, FunctionKey, OldAliasKey, PartitionKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_ID, RootCoordTables
from coordd.rootcoord.collections import Change
from coordd.rootcoord.proxies import ProxyManager
from coordd.rootcoord.word import Word
from coordd.rpc.failure import RpcFailure
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.inherited")


def changes(tables: RootCoordTables, layout: MetaLayout, keys: Iterable[str]) -> list[Change]:
    """What proxies are to forget because these keys were changed: each collection and alias once."""
    found: dict[Change, None] = {}
    for key in keys:
        match layout.parse(key):
            case (
                CollectionKey(_, collection_id)
                | PartitionKey(collection_id, _)
                | FieldKey(collection_id, _)
                | FunctionKey(collection_id, _)
            ):
                found[Change((), "", collection_id=collection_id)] = None
            case AliasKey(db_id, alias):
                database = tables.databases.get(db_id or DEFAULT_DB_ID)
                if database is not None:
                    found[Change((), database.name, (alias,))] = None
            case OldAliasKey(alias):
                database = tables.databases.get(DEFAULT_DB_ID)
                if database is not None:
                    found[Change((), database.name, (alias,))] = None
            case _:
                pass
    return list(found)


async def tell(proxies: ProxyManager, made: Sequence[Change], server_id: int, timestamp: int) -> None:
    """Tell all proxies of one change after the other; ends early if the term does.

    `timestamp`: later than the changes.
    """
    for change in made:
        try:
            await Word(proxies, change, server_id=server_id, timestamp=lambda: timestamp).spread(0)
        except RpcFailure:
            return
        except MilvusError as error:
            log.warning("not all proxies have heard of what was changed before", reason=str(error))
