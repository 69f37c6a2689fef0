"""The parts of one term of the root coordinator: made when it begins, of no use when it has ended."""

from dataclasses import dataclass

from coordd.mq.errors import MessageQueueError
from coordd.rootcoord.alteration_news import AlterationNews
from coordd.rootcoord.channels import ChannelPool
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.kept_answers import KeptAnswers
from coordd.rootcoord.life import Life
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.quota.center import QuotaCenter
from coordd.rootcoord.timetick import TimeTicker


@dataclass(frozen=True, slots=True)
class Services:
    """Of a replica that serves: those who report to it and whom it asks, and what is done with them.

    `time_ticks`: the time ticks. `peers`: the other processes. `alteration_news`: what DataCoord is told.
    `quota`: what proxies may let through. `life`: collections and partitions made and dropped. `imports`:
    bulk inserts.
    """

    time_ticks: TimeTicker
    peers: Peers
    alteration_news: AlterationNews
    quota: QuotaCenter
    life: Life
    imports: Imports


@dataclass(slots=True)
class TermParts:
    """All that belongs to one term.

    `kept`: answers that are given again. `ddl`: changes of databases, collections and what is in them.
    `access`: of users, roles and privileges. `operations`: changes that take several steps. `channels`: the
    physical channels. `no_queue`: why there is no message queue, if one is wanted. `told_until`: the revision
    up to which earlier terms have told the proxies of all changes. `served`: None if nothing is served.
    """

    epoch: int
    oracle: Oracle
    kept: KeptAnswers
    ddl: Ddl
    access: Ddl
    operations: Operations
    channels: ChannelPool
    no_queue: str | None = None
    told_until: int = 0
    served: Services | None = None

    @property
    def services(self) -> Services:
        """What there is of a replica that serves.

        Raises:
            TermOverError: nothing is served in this term.
        """
        if self.served is None:
            raise TermOverError("this rootcoord is not active")
        return self.served

    @property
    def life(self) -> Life:
        """Making and dropping collections and partitions.

        Raises:
            TermOverError: nothing is served in this term.
            MessageQueueError: there is no message queue, though one is wanted; says why. A new one each time:
                each raise adds to the traceback of what is raised, and a term may be long.
        """
        if self.no_queue is not None:
            raise MessageQueueError(self.no_queue)
        return self.services.life

    def close(self) -> None:
        """Hand out nothing any more."""
        self.oracle.close()
        self.operations.close()
        self.kept.forget()
