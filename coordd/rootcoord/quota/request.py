"""The limits of collections as a proxy is told them.

Pure. A proxy takes a message whole: collections that are not in it have no limit from then on.

Source of truth: Milvus 2.3.5 internal/rootcoord/quota_center.go (setRates),
internal/proxy/multi_rate_limiter.go.
"""

import sys
from collections.abc import Iterator
from typing import cast

from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.internal_pb2 import Rate, RateType
from coordd.pb.milvus_pb2 import QuotaState
from coordd.pb.proxy_pb2 import CollectionRate
from coordd.rootcoord.quota.ceilings import UNLIMITED
from coordd.rootcoord.quota.limits import CollectionLimits
from coordd.rootcoord.quota.writing import Reason

NO_LIMIT = sys.float_info.max
"""Go's math.MaxFloat64, by which a proxy knows a rate without limit."""


def collection_rate(collection_id: int, limits: CollectionLimits, proxies: int) -> CollectionRate:
    """What one of `proxies` proxies is told of a collection: its share of each limit."""
    denials = tuple(_denials(limits))
    return CollectionRate(
        collection=collection_id,
        rates=[
            Rate(rt=cast("RateType", int(kind)), r=rate / proxies if rate < UNLIMITED else NO_LIMIT)
            for kind, rate in limits.rates.items()
        ],
        states=[state for state, _reason in denials],
        codes=[cast("ErrorCode", int(reason)) for _state, reason in denials],
    )


def _denials(limits: CollectionLimits) -> Iterator[tuple[QuotaState, Reason]]:
    if limits.writing_denied is not None:
        yield QuotaState.DenyToWrite, limits.writing_denied
    if limits.reading_denied is not None:
        yield QuotaState.DenyToRead, limits.reading_denied
