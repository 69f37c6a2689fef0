"""InvalidateCollectionMetaCache: passed on to all proxies. No process of Milvus 2.3 calls it.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go.
"""

from collections.abc import Callable

from coordd.pb.common_pb2 import Status
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.peers import Peers
from coordd.rpc.call import Call
from coordd.rpc.status import success


class CacheHandlers:
    """`_peers` gives the other processes as the present term sees them."""

    _peers: Callable[[], Peers]

    async def invalidate_collection_meta_cache(
        self, request: InvalidateCollMetaCacheRequest, _call: Call
    ) -> Status:
        """Have all proxies forget a collection."""
        try:
            proxies = self._peers().proxies
        except TermOverError as error:
            raise elsewhere(error) from error
        await proxies.invalidate_collection_meta_cache(request)
        return success()
