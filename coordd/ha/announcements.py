"""The log lines by which operators and their filters follow a Milvus coordinator, word for word.

The lines `term began` and `term ended` are coordd's own.

Upstream logs the STANDBY line at DEBUG, but before its log level takes effect, so operators see it; here it
is INFO.

Source: Milvus 2.3.5 internal/util/sessionutil/session_util.go, internal/distributed/rootcoord/service.go.
"""

from dataclasses import dataclass

from coordd.ha.election_events import State
from coordd.ha.history import TermRecord
from coordd.ha.leadership import SessionEntry
from coordd.log import get_logger

log = get_logger("coordd.ha")

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

    def state(self, now: State, was: State | None = None, *, why: str = "", epoch: int = 0) -> None:
        """The election has moved; `why` is the event that moved it."""
        facts = {} if was is None else {"was": was.value, "why": why, "epoch": epoch}
        log.info(
            f"update {self.role} state",
            state=MILVUS_STATES[now],
            election=now.value,
            server_id=self.server_id,
            **facts,
        )

    def entered_standby(self) -> None:
        """A session was registered and waits for its turn."""
        log.info(f"{self.display_name} enter standby mode successfully")
        log.info(f"serverName: {self.role} enter STANDBY mode")

    def held(self, holder: SessionEntry) -> None:
        """Somebody else is active, who was not so far."""
        record = holder.record
        log.info(
            f"ACTIVE {self.role} has already been registered",
            holder=record.server_id if record else None,
            address=record.address if record else None,
        )
        log.info(f"{self.role} start to watch ACTIVE key {self.active_key}")

    def in_standby(self) -> None:
        """The line of every ten seconds."""
        log.info(f"serverName: {self.role} is in STANDBY ...")

    def campaigning(self, holder: SessionEntry | None) -> None:
        """The ACTIVE key was seen to be free; `holder` had it before."""
        if holder is not None:
            log.info(f"stop watching ACTIVE key {self.active_key}")
        log.info(f"try to register as ACTIVE {self.role} service...")

    def won(self, epoch: int) -> None:
        """The ACTIVE key is ours."""
        log.info(f"register ACTIVE {self.role}", epoch=epoch)
        log.info(
            f"serverName: {self.role} quit STANDBY mode, this node will become ACTIVE, ID: {self.server_id}"
        )
        log.info(f"{self.display_name} switch from standby to active, activating", epoch=epoch)

    def serving(self, epoch: int, address: str, phases_s: dict[str, float]) -> None:
        """Requests are answered from now on."""
        log.info(f"{self.role} startup successfully")
        log.info(
            f"{self.display_name} startup success",
            epoch=epoch,
            address=address,
            **{f"{phase}_s": round(length, 6) for phase, length in phases_s.items()},
        )
        log.info(f"{self.display_name} Register Finished")

    def term_began(self, record: TermRecord) -> None:
        """A term serves; a phase that was not passed has no key."""
        log.info(
            "term began",
            role=record.role,
            epoch=record.epoch,
            cause=record.cause.value,
            predecessor=record.predecessor,
            **{f"{phase}_s": round(length / 1000, 6) for phase, length in record.phases_ms.items()},
        )

    def term_ended(self, record: TermRecord) -> None:
        """A term is over, seen by the one who led it."""
        log.info(
            "term ended",
            role=record.role,
            epoch=record.epoch,
            end=record.end.value if record.end is not None else "",
            lasted_s=record.lasted_s,
        )
