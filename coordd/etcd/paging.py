"""A range read in pages, all at the revision of the first; or one page, for those who go on by themselves.

A page is sized by what the pages before it held: each page costs etcd (up to 3.5) a walk over the index of
the whole rest of the range, so pages should be few; but each is decoded in one go on the event loop's
thread, so they must not be huge.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordd.etcd import codec
from coordd.etcd.errors import Compacted
from coordd.etcd.types import KeyValue, RangePage, RangeResult, decode_key

FIRST_PAGE_KEYS = 5_000
MAX_PAGE_KEYS = 50_000
PAGE_BYTES = 8 << 20
_ATTEMPTS = 3
_DECODE_SLICE = 2_000  # keys turned into objects between two turns of the event loop: some 5 ms


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """What to read. `revision` 0: the newest at the first page. `page_size` None: adapted."""

    start: str | bytes
    end: str
    revision: int
    keys_only: bool
    page_size: int | None
    serializable: bool


async def read_range(query: RangeQuery, read: Callable[[Any], Awaitable[Any]]) -> RangeResult:
    """All keys of the range; `read` sends one RangeRequest.

    Raises:
        Compacted: `query.revision` is gone, or etcd compacts again and again while we read.
    """
    attempt = 1
    while True:
        try:
            return await _read_pages(query, read)
        except Compacted:
            if query.revision or attempt == _ATTEMPTS:
                raise
        attempt += 1


async def _read_pages(query: RangeQuery, read: Callable[[Any], Awaitable[Any]]) -> RangeResult:
    kvs: list[KeyValue] = []
    limit = query.page_size or FIRST_PAGE_KEYS
    while True:
        answer = await read(
            codec.range_request(
                query.start,
                query.end,
                revision=query.revision,
                limit=limit,
                keys_only=query.keys_only,
                serializable=query.serializable,
            )
        )
        page = answer.kvs
        kvs += await _decoded(page)
        revision = query.revision or answer.header.revision
        if not answer.more:
            return RangeResult(revision, kvs)
        query = replace(query, start=page[-1].key + b"\0", revision=revision)
        if query.page_size is None:
            limit = min(MAX_PAGE_KEYS, max(1, limit * PAGE_BYTES // max(1, answer.ByteSize())))


async def read_page(start: str, end: str, limit: int, read: Callable[[Any], Awaitable[Any]]) -> RangePage:
    """The first `limit` keys of the range, at the newest revision; `read` sends one RangeRequest."""
    answer = await read(codec.range_request(start, end, limit=limit))
    rest = decode_key(answer.kvs[-1].key + b"\0") if answer.more else None
    return RangePage(answer.header.revision, await _decoded(answer.kvs), rest)


async def _decoded(page: Sequence[Any]) -> list[KeyValue]:
    kvs: list[KeyValue] = []
    for first in range(0, len(page), _DECODE_SLICE):
        kvs += [codec.key_value(kv) for kv in page[first : first + _DECODE_SLICE]]
        await asyncio.sleep(0)
    return kvs
