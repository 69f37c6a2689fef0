"""Lives of an election up to a certain point, for the tests to go on from; notation of `election_script`."""

from typing import Any

from coordd.ha import election as el

from .election_script import play

ME = 5
"""Server ID of the replica under test; its guard is 2 s, its margin 0.5 s."""

CRASHED_HOLDER = """
    10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby [10.75]
    11.0  observed 21, heartbeat 19 guard 2.0                 -> campaigning: campaign 19
"""
TAKING_OVER = CRASHED_HOLDER + "11.1  won 22 -> activating: begin term 22"
FREE = "10.0  observed 1 -> campaigning: campaign 0"
SETTLED = FREE + "\n10.1  won 2 -> activating: begin term 2"
ACTIVE = SETTLED + "\n10.2  activated -> active: serve 2"
DRAINING = ACTIVE + "\n10.3  stop -> resigning: drain"
RESIGNING = DRAINING + "\n10.4  drained -> resigning: resign 2"

OURS = "active 2 of 5, heartbeat 2"
HELD = "active 7 of 3, heartbeat 20"
AWAITING = "10.0  observed 20, active 7 of 3, heartbeat 19 -> standby [10.75]"

LEADING = (
    SETTLED
    + """
10.2  activated                                                                       -> active: serve 2
10.3  observed 3, active 2 of 5, heartbeat 2, standbys 6@1 7@3                       -> active
"""
)
OFFERING = LEADING + "11.0  asked -> offering: offer [12.0]"
HANDING_OVER = (
    OFFERING
    + """
11.01  observed 5, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@5/4 7@3       -> handing over: drain
"""
)
PASSING_ON = HANDING_OVER + "11.02  drained -> handing over: hand over to 6 at 5"


def election(*, exclusive: bool = False, exclusive_attempts: int = 30) -> el.Election:
    """A new election."""
    return el.Election(
        el.ElectionSettings(
            server_id=ME, serve_guard_s=2.0, margin_s=0.5, exclusive=exclusive,
            exclusive_attempts=exclusive_attempts,
        )
    )  # fmt: skip


def played(script: str, **settings: Any) -> el.Election:
    """An election that has lived through the script."""
    subject = election(**settings)
    play(subject, script)
    return subject
