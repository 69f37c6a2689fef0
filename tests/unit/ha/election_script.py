"""A readable notation for what an election is told and what it does.

Each line of a script is a time, an event, and behind `->` the state and the instructions that follow, with
the time for which a tick is wanted in brackets:

    10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby
    10.5  observed 21, heartbeat 19                           -> campaigning: campaign 19
    10.6  won 22                                              -> activating: begin term 22
    10.7  activated                                           -> activating [12.5]
    12.5  tick                                                -> active: serve 22

`observed R` is the state as of revision R: the ACTIVE key's mod_revision and its holder's server ID, the
heartbeat's mod_revision and the guard that it publishes; what is not mentioned is absent. `lost to 20 of 3,
heartbeat 19` says the same of a refused campaign.
"""

import re
from collections.abc import Callable, Sequence

from coordd.ha import election as el
from coordd.ha import election_events as ev

_PART = re.compile(
    r"(?:, )?(?P<key>active|to|heartbeat) (?P<revision>\d+)(?: of (?P<of>\d+))?(?: guard (?P<guard>[\d.]+))?"
)


def play(election: el.Election, script: str) -> None:
    """Tell the election what the script says and compare what it does.

    Raises:
        AssertionError: it does something else; the message shows the script as it would be right.
    """
    lines = [line.strip() for line in script.strip().splitlines() if line.strip()]
    told = [line.rpartition("->")[0].strip() for line in lines]
    width = max(map(len, told))
    played = []
    for words in told:
        instructions = election.handle(parse(words))
        election.check_invariants()
        played.append(f"{words:{width}}  -> {_outcome(election, instructions)}")
    expected = [
        f"{words:{width}}  -> {line.rpartition('->')[2].strip()}"
        for words, line in zip(told, lines, strict=True)
    ]
    assert played == expected, "\n".join(["what happens is:", *played])


def parse(words: str) -> ev.Event:
    """The event that a line's left side stands for."""
    time, _, what = words.partition(" ")
    return _event(float(time), what.strip())


def _event(now: float, what: str) -> ev.Event:
    name, _, rest = what.partition(" ")
    parts = {part["key"]: part for part in _PART.finditer(rest)}
    active, heartbeat = parts.get("active") or parts.get("to"), parts.get("heartbeat")
    active_revision = int(active["revision"]) if active else 0
    holder = int(active["of"]) if active and active["of"] else None
    heartbeat_revision = int(heartbeat["revision"]) if heartbeat else 0
    guard_s = float(heartbeat["guard"]) if heartbeat and heartbeat["guard"] else None
    timed: dict[str, Callable[[], ev.Event]] = {
        "observed": lambda: ev.Observed(
            now, int(rest.partition(",")[0]), active_revision, heartbeat_revision, guard_s, holder
        ),
        "won": lambda: ev.CampaignWon(now, int(rest), now),
        "lost": lambda: ev.CampaignLost(now, active_revision, holder, heartbeat_revision),
        "unanswered": lambda: ev.CampaignFailed(now),
        "activated": lambda: ev.Activated(now),
        "tick": lambda: ev.Tick(now),
    }
    return _TIMELESS[what] if what in _TIMELESS else timed[name]()


_TIMELESS: dict[str, ev.Event] = {
    "activation failed": ev.ActivationFailed(),
    "fence refused": ev.FenceLost(),
    "lease lost": ev.LeaseLost(),
    "stop": ev.StopRequested(),
    "drained": ev.Drained(),
    "resigned": ev.Resigned(),
}


def _outcome(election: el.Election, instructions: Sequence[ev.Instruction]) -> str:
    orders = ", ".join(map(_order, instructions))
    deadline = election.next_deadline()
    tick = "" if deadline is None else f" [{round(deadline, 6)}]"
    return f"{election.state.value}{': ' if orders else ''}{orders}{tick}"


def _order(instruction: ev.Instruction) -> str:
    match instruction:
        case ev.Campaign(expected):
            return f"campaign {expected}"
        case ev.BeginTerm(epoch):
            return f"begin term {epoch}"
        case ev.Serve(epoch):
            return f"serve {epoch}"
        case ev.Drain():
            return "drain"
        case ev.Resign(epoch):
            return f"resign {epoch}"
        case ev.EndSession(reason):
            return f"end session ({reason.value})"
