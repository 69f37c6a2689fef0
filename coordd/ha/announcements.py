"""The log lines by which operators and their filters follow a Milvus coordinator, word for word.

The lines `term began` and `term ended` are coordd's own.

Upstream logs the STANDBY line at DEBUG, but before its log level takes effect, so operators see it; here it
is INFO.

Most of these lines belong to a change of leadership, which must not wait for them; see `coordd.log.Later`.

Source: Milvus 2.3.5 internal/util/sessionutil/session_util.go, internal/distributed/rootcoord/service.go.
"""

from dataclasses import dataclass, field

from coordd.ha.election_events import State
from coordd.ha.history import TermRecord
from coordd.ha.leadership import SessionEntry
from coordd.log import Later, get_logger

MILVUS_STATES = {
    State.STANDBY: "StandBy",
    State.CAMPAIGNING: "StandBy",
    State.ACTIVATING: "Initializing",
    State.ACTIVE: "Healthy",
    State.OFFERING: "Healthy",
    State.HANDING_OVER: "Healthy",
    State.RESIGNING: "Stopping",
    State.ENDED: "Abnormal",
}
"""Names of `common.StateCode`."""


@dataclass(frozen=True, slots=True)
class Announcements:
    """The lines of one session. `role` is `rootcoord`, `display_name` `RootCoord`."""

    role: str
    display_name: str
    server_id: int
    active_key: str
    _log: Later = field(default_factory=lambda: Later(get_logger("coordd.ha")))

    def flush(self) -> None:
        """Write the lines that still wait."""
        self._log.flush()

    def state(self, now: State, was: State | None = None, *, why: str = "", epoch: int = 0) -> None:
        """The election has moved; `why` is the event that moved it."""
        facts = {} if was is None else {"was": was.value, "why": why, "epoch": epoch}
        self._log.info(
            f"update {self.role} state",
            state=MILVUS_STATES[now],
            election=now.value,
            server_id=self.server_id,
            **facts,
        )

    def entered_standby(self) -> None:
        """A session was registered and waits for its turn."""
        self._log.info(f"{self.display_name} enter standby mode successfully")
        self._log.info(f"serverName: {self.role} enter STANDBY mode")

    def held(self, holder: SessionEntry) -> None:
        """Somebody else is active, who was not so far."""
        record = holder.record
        self._log.info(
            f"ACTIVE {self.role} has already been registered",
            holder=record.server_id if record else None,
            address=record.address if record else None,
        )
        self._log.info(f"{self.role} start to watch ACTIVE key {self.active_key}")

    def in_standby(self) -> None:
        """The line of every ten seconds."""
        self._log.info(f"serverName: {self.role} is in STANDBY ...")

    def campaigning(self, holder: SessionEntry | None) -> None:
        """The ACTIVE key was seen to be free; `holder` had it before."""
        if holder is not None:
            self._log.info(f"stop watching ACTIVE key {self.active_key}")
        self._log.info(f"try to register as ACTIVE {self.role} service...")

    def gone(self, holder: SessionEntry, evidence: str) -> None:
        """The process that holds the ACTIVE key is gone."""
        server_id = holder.record.server_id if holder.record else None
        self._log.warning("the ACTIVE process is gone", role=self.role, holder=server_id, evidence=evidence)

    def handing_over(self, epoch: int, heir: int) -> None:
        """The ACTIVE key is about to be passed on."""
        self._log.info("handing leadership over", role=self.role, epoch=epoch, heir=heir)

    def giving_up(self, epoch: int) -> None:
        """The ACTIVE key is about to be deleted, since there is nobody to pass it on to."""
        self._log.info("giving leadership up", role=self.role, epoch=epoch)

    def won(self, epoch: int) -> None:
        """The ACTIVE key is ours."""
        self._log.info(f"register ACTIVE {self.role}", epoch=epoch)
        self._log.info(
            f"serverName: {self.role} quit STANDBY mode, this node will become ACTIVE, ID: {self.server_id}"
        )
        self._log.info(f"{self.display_name} switch from standby to active, activating", epoch=epoch)

    def serving(self, epoch: int, address: str, phases_s: dict[str, float]) -> None:
        """Requests are answered from now on."""
        self._log.info(f"{self.role} startup successfully")
        self._log.info(
            f"{self.display_name} startup success",
            epoch=epoch,
            address=address,
            **{f"{phase}_s": round(length, 6) for phase, length in phases_s.items()},
        )
        self._log.info(f"{self.display_name} Register Finished")

    def term_began(self, record: TermRecord) -> None:
        """A term serves; a phase that was not passed has no key."""
        self._log.info(
            "term began",
            role=record.role,
            epoch=record.epoch,
            cause=record.cause.value,
            predecessor=record.predecessor,
            **{f"{phase}_s": round(length / 1000, 6) for phase, length in record.phases_ms.items()},
        )

    def term_ended(self, record: TermRecord) -> None:
        """A term is over, seen by the one who led it."""
        self._log.info(
            "term ended",
            role=record.role,
            epoch=record.epoch,
            end=record.end.value if record.end is not None else "",
            lasted_s=record.lasted_s,
        )
