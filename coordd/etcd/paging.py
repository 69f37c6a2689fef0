"""A range read in pages, all at the revision of the first; or one page, for those who go on by themselves.

A page is sized by what the pages before it held: each page costs etcd (up to 3.5) a walk over the index of
the whole rest of the range, so pages should be few; but each is decoded in one go on the event loop's
thread, so they must not be huge.

Who reads a large range to keep a digest of it takes it in parts: of what was read there is one page at a time
in memory then, not all of it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from coordd.etcd import codec
from coordd.etcd.errors import Compacted
from coordd.etcd.types import KeyValue, RangePage, RangeResult, decode_key

FIRST_PAGE_KEYS = 5_000
MAX_PAGE_KEYS = 50_000
PAGE_BYTES = 8 << 20
_ATTEMPTS = 3
PART_KEYS = 500
"""Keys turned into objects between two turns of the event loop: a millisecond, a few with their use."""


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
            return await _read_whole(query, read)
        except Compacted:
            if query.revision or attempt == _ATTEMPTS:
                raise
        attempt += 1


async def _read_whole(query: RangeQuery, read: Callable[[Any], Awaitable[Any]]) -> RangeResult:
    revision, kvs = query.revision, list[KeyValue]()
    async with aclosing(read_parts(query, read)) as parts:
        async for part in parts:
            revision = part.revision
            kvs += part.kvs
    return RangeResult(revision, kvs)


async def read_parts(
    query: RangeQuery, read: Callable[[Any], Awaitable[Any]]
) -> AsyncGenerator[RangeResult, None]:
    """All keys of the range, some hundred at a time, all as of one revision; at least one part, maybe empty.

    Lets the event loop run after each.

    Raises:
        Compacted: the revision is gone, that of the first page too if etcd compacts while we read.
    """
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
        query = replace(query, revision=query.revision or answer.header.revision)
        for kvs in _decoded(answer.kvs):
            yield RangeResult(query.revision, kvs)
            await asyncio.sleep(0)
        if not answer.more:
            return
        query = replace(query, start=answer.kvs[-1].key + b"\0")
        if query.page_size is None:
            limit = min(MAX_PAGE_KEYS, max(1, limit * PAGE_BYTES // max(1, answer.ByteSize())))
        del answer  # not two pages at once


async def read_page(start: str, end: str, limit: int, read: Callable[[Any], Awaitable[Any]]) -> RangePage:
    """The first `limit` keys of the range, at the newest revision; `read` sends one RangeRequest."""
    answer = await read(codec.range_request(start, end, limit=limit))
    rest = decode_key(answer.kvs[-1].key + b"\0") if answer.more else None
    kvs: list[KeyValue] = []
    for some in _decoded(answer.kvs):
        kvs += some
        await asyncio.sleep(0)
    return RangePage(answer.header.revision, kvs, rest)


def _decoded(page: Sequence[Any]) -> Iterator[list[KeyValue]]:
    for first in range(0, max(1, len(page)), PART_KEYS):
        yield codec.key_values(page[first : first + PART_KEYS])
