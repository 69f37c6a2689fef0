"""What the replica driver needs of a role, of a term, and of the server that answers for it.

A role package (rootcoord, datacoord, querycoord) provides a `Coordinator`; the transport provides a
`RoleServer`. Neither knows the election: they see a `Term` begin, and their tasks end when it ends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coordd.etcd import Compare, Op, OpResult
from coordd.ha.gate import Forwarder
from coordd.ha.session import SessionRecord
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.meta.fold import Table


@dataclass(frozen=True, slots=True)
class Term:
    """One term of leadership of one replica.

    `epoch` is the mod_revision of the ACTIVE key that this term wrote, `fence` the compare on it that every
    transaction of the term carries (`committer` adds it). `started_at` is in seconds on CLOCK_BOOTTIME.
    Tasks of `task_group` are cancelled and awaited when the term ends; a task that raises ends the term.
    """

    role: str
    server_id: int
    epoch: int
    fence: Compare
    committer: FencedCommitter
    started_at: float
    task_group: asyncio.TaskGroup

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run `coroutine` until it ends or the term does; `FenceLost` is no failure."""
        task = self.task_group.create_task(
            _until_fence_lost(coroutine), name=f"{self.role}:{self.epoch}:{name}"
        )
        # A task that is cancelled before its first step never gets to the coroutine in it.
        task.add_done_callback(lambda _task: coroutine.close())


async def _until_fence_lost(coroutine: Coroutine[Any, Any, None]) -> None:
    """A task of the term is the last to hear that the term is over: the committer has told the election."""
    try:  # noqa: SIM105 - for each change of metadata
        await coroutine
    except FenceLost:
        pass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a role has done in the very transaction that wins the ACTIVE key.

    `ops` are carried out if it wins; then `granted` is called with the epoch and their results, before
    `activate`. If the outcome of the campaign stays unknown it is not, even if the term comes to be.
    """

    ops: Sequence[Op]
    granted: Callable[[int, Sequence[OpResult]], None]


class Coordinator(Protocol):
    """A role, as far as high availability is concerned. One instance lives as long as the process."""

    @property
    def role(self) -> str:
        """Milvus' name of the role: rootcoord, datacoord, querycoord."""

    @property
    def companions(self) -> tuple[str, ...]:
        """Further session names the active replica holds (datacoord holds indexcoord)."""

    @property
    def follow_from(self) -> str:
        """First key of the range to follow; it always ends after the session keys."""

    @property
    def tables(self) -> Sequence[Table]:
        """The role's tables; they are filled before `activate` and followed for the life of the process."""

    async def follow(self) -> None:
        """Keep up to date what the role follows besides its tables, until cancelled; may end at once."""

    def claim(self) -> Claim | None:
        """What the next campaign is to do besides; asked for right before it. None: nothing."""

    def bequest(self) -> Sequence[Op]:
        """What a handover is to do besides, for the heir's `activate`; asked for when nothing is answered
        here any more."""

    async def activate(self, term: Term) -> None:
        """Make the role ready to answer every request. The tables are complete up to `term.epoch`.

        Writes go through `term.committer`. Called again in the same term after an EtcdError or a
        CommitConflict, and may be cancelled at any time.

        Raises:
            EtcdError, CommitConflict: tried again, unless waiting cannot mend it.
            FenceLost: the term is over.
            CoorddError: the role cannot be made ready; leadership is then given up for another replica.
        """

    def deactivate(self) -> None:
        """The term is over: drop what belongs to it. Called after its tasks have ended."""


class RoleServer(Protocol):
    """The gRPC server of one term."""

    async def listen(self) -> None:
        """Bind and listen, accept nothing yet.

        Raises:
            CoorddError: the port is in use.
        """

    async def start(self) -> None:
        """Accept connections, those that wait in the backlog first."""

    async def stop(self, grace_s: float) -> None:
        """Stop listening, before it waits for anything; calls in flight get `grace_s` to finish.

        May be called in any state, and be cancelled.
        """


ServerFactory = Callable[[], RoleServer]
ForwarderFactory = Callable[[str, int, int], Forwarder]
"""Address and server ID of the heir, own server ID -> the way to the heir."""


class Evidence(Protocol):
    """What tells that a process is gone. Times are seconds on CLOCK_BOOTTIME."""

    @property
    def kind(self) -> str:
        """In words, for the log."""

    @property
    def noticed_at(self) -> float:
        """When the first sign came."""


Detect = Callable[[SessionRecord], Awaitable[Evidence]]
"""Waits, for ever if need be, for evidence that the process which wrote this record is gone."""
