"""The mark of a barred proxy in its session record, so that a bar outlives the term.

A proxy is barred because it may know a collection as it is not any more. What it has not been told is
known in memory only; if that is lost, nobody can tell it, and it must get no timestamps until it has
started anew. So before a change counts as done, the record of each proxy that could not be told of it says
`"CoorddBarred":true`.  The record goes with the session, and so does the mark. Every replica follows the
sessions, so a successor knows who is barred before it answers anything. Processes of Milvus ignore the
field.

Under the term's fence, and only if the record is as it was read; on the lease that the session has.
"""

import json

from coordd.etcd import Put
from coordd.etcd.errors import LeaseLost
from coordd.ha.session import BARRED_FIELD
from coordd.meta.commit import CommitConflict, FencedCommitter
from coordd.meta.layout import MetaLayout


class BarRecords:
    """Writes the marks of one term."""

    def __init__(self, committer: FencedCommitter, layout: MetaLayout) -> None:
        self._committer = committer
        self._layout = layout

    async def write(self, server_id: int, *, barred: bool) -> None:
        """Have the record of a proxy say whether it is barred; a session that has ended needs none.

        Safe to repeat. Takes no longer than a few times `coordd.meta.commit.TIMEOUT_S`.

        Raises:
            FenceLost: the term is over.
            EtcdError: it is not known what the record says.
        """
        key = self._layout.session("proxy", server_id)
        while True:
            kv = (await self._committer.read([key])).values[key]
            value = None if kv is None else marked(kv.value, barred=barred)
            if kv is None or value is None or value == kv.value:
                return
            put = Put(key, value, kv.lease)
            try:
                await self._committer.commit([put], guard_key=key, guard_revision=kv.mod_revision)
            except (CommitConflict, LeaseLost):
                continue  # the session was written anew, or has ended
            return


def marked(value: bytes, *, barred: bool) -> bytes | None:
    """A session record with or without the mark, all else as it was; None: it is no record."""
    try:
        record = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if barred == (record.get(BARRED_FIELD) is True):
        return value
    record.pop(BARRED_FIELD, None)
    if barred:
        record[BARRED_FIELD] = True
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
