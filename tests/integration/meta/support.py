"""A term of one replica on a real etcd."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from coordd.etcd import Compare, EtcdClient
from coordd.etcd.settings import ClientSettings
from coordd.meta.commit import FencedCommitter
from coordd.meta.fold import Fold
from tests.unit.meta.tables import DictTable


@dataclass
class Term:
    """`key(name)` lies in the table, `root` holds everything."""

    client: EtcdClient
    root: str
    table: DictTable
    fold: Fold
    committer: FencedCommitter
    losses: list[None]

    @property
    def active_key(self) -> str:
        return f"{self.root}/session/rootcoord"

    def key(self, name: str) -> str:
        return f"{self.root}/a/{name}"

    async def stored(self, name: str) -> bytes | None:
        """What etcd holds."""
        kv = (await self.client.get(self.key(name))).kv
        return None if kv is None else kv.value


@contextlib.asynccontextmanager
async def term(settings: ClientSettings, root: str) -> AsyncIterator[Term]:
    """A client of its own, the ACTIVE key written, nothing followed."""
    async with EtcdClient(settings) as client:
        table = DictTable(f"{root}/a/")
        fold = Fold([table])
        losses: list[None] = []
        epoch = await client.put(f"{root}/session/rootcoord", b"me")
        fence = Compare.mod_revision(f"{root}/session/rootcoord", epoch)
        committer = FencedCommitter(client, fence, fold, lambda: losses.append(None))
        yield Term(client, root, table, fold, committer, losses)
