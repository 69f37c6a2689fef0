"""A replica as the management port sees it, with values that tests set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from coordd.ha.history import TermLog
from coordd.pb.common_pb2 import StateCode


@dataclass
class FakeView:
    """An active rootcoord in epoch 77; `standby()` is one that stands by."""

    role: str = "rootcoord"
    server_id: int = 4
    state: str = "active"
    state_code: int = StateCode.Healthy
    epoch: int = 77
    serving: bool = True
    following: bool = True
    guard_remaining_s: float = 1.5
    followed_revision: int = 1000
    revision_lag: int | None = 2
    quarantined_keys: int = 1
    quarantined_total: int = 3
    takeover_phases_s: Mapping[str, float] = field(default_factory=lambda: {"fence": 0.004, "serve": 0.001})
    term_log: TermLog = field(default_factory=TermLog)


def standby(role: str = "rootcoord") -> FakeView:
    return FakeView(
        role=role,
        state="standby",
        state_code=StateCode.StandBy,
        epoch=0,
        serving=False,
        guard_remaining_s=0.0,
        takeover_phases_s={},
    )
