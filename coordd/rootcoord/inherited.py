"""What earlier terms changed last, told to the proxies once more when a term begins.

A term may end between a change and the news of it. The caller then repeats the call, which tells the proxies
again; but it may have ended as well. So a new term has them forget every collection and alias that was
changed lately, as far as this process followed it (`Fold.recent_keys`); a proxy that does not answer is
barred by that as by any news. To forget something twice, or without need, costs a proxy one question.

Not promised: that a proxy gets no timestamps before it has been told. For that its caller would have to wait.
"""

from collections.abc import Iterable, Sequence

from coordd.log import get_logger
from coordd.meta.keys import AliasKey, CollectionKey, FieldKey, FunctionKey, OldAliasKey, PartitionKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_ID, RootCoordTables
from coordd.pb.common_pb2 import MsgBase
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.proxies import ProxyManager
from coordd.rootcoord.proxies.manager import SessionsNotKnown
from coordd.rpc.failure import RpcFailure
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.inherited")


def notices(
    tables: RootCoordTables, layout: MetaLayout, keys: Iterable[str], server_id: int
) -> list[InvalidateCollMetaCacheRequest]:
    """What proxies are to forget because these keys were changed: each collection and alias once."""
    found: dict[tuple[str, str, int], None] = {}
    for key in keys:
        match layout.parse(key):
            case (
                CollectionKey(_, collection_id)
                | PartitionKey(collection_id, _)
                | FieldKey(collection_id, _)
                | FunctionKey(collection_id, _)
            ):
                found["", "", collection_id] = None
            case AliasKey(db_id, alias):
                database = tables.databases.get(db_id or DEFAULT_DB_ID)
                if database is not None:
                    found[database.name, alias, 0] = None
            case OldAliasKey(alias):
                database = tables.databases.get(DEFAULT_DB_ID)
                if database is not None:
                    found[database.name, alias, 0] = None
            case _:
                pass
    return [
        InvalidateCollMetaCacheRequest(
            base=MsgBase(sourceID=server_id),
            db_name=db_name,
            collection_name=name,
            collectionID=collection_id,
        )
        for db_name, name, collection_id in found
    ]


async def tell(proxies: ProxyManager, requests: Sequence[InvalidateCollMetaCacheRequest]) -> None:
    """Tell all proxies one after the other; ends early if the term does."""
    for request in requests:
        try:
            await proxies.invalidate_collection_meta_cache(request)
        except RpcFailure:
            return
        except (MilvusError, SessionsNotKnown) as error:
            log.warning("not all proxies have heard of what was changed before", reason=str(error))
