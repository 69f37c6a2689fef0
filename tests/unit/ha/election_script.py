"""A readable notation for what an election is told and what it does.

Each line of a script is a time, an event, and behind `->` the state and the instructions that follow, with
the time for which a tick is wanted in brackets:

    10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby [10.75]
    10.5  observed 21, heartbeat 19                           -> campaigning: campaign 19
    10.6  won 22                                              -> activating: begin term 22
    10.7  activated                                           -> activating [12.5]
    12.5  tick                                                -> active: serve 22

`observed R` is the state as of revision R, what is not mentioned is absent:

    active 7 of 3             the ACTIVE key's mod_revision and its holder, a replica of coordd
    active 7 of milvus 3      the same, but its holder is a Milvus coordinator
    heartbeat 19 guard 2.0    its mod_revision and the guard that it publishes; with `unsettled` behind it,
                              its author says that somebody before it may still answer
    offer 21 by 3 to 5        the holder asks for an heir; without `to`: any
    standbys 4 5@22 6@23/21   their server IDs, the revisions of their reports, the offers that these answer

`lost to 20 of 3, heartbeat 19` says the same of a refused campaign. `campaign 19` is for an absent ACTIVE
key, `steal 7 at 19` for one that is there; a term that begins by a steal or a handover says so.
"""

import re
from collections.abc import Callable, Sequence

from coordd.ha import election as el
from coordd.ha import election_events as ev

_PARTS: dict[str, re.Pattern[str]] = {
    "active": re.compile(r"\b(?:active|to) (?P<revision>\d+)(?: of (?P<milvus>milvus )?(?P<holder>\d+))?"),
    "heartbeat": re.compile(
        r"heartbeat (?P<revision>\d+)(?: guard (?P<guard>[\d.]+))?(?P<unsettled> unsettled)?"
    ),
    "offer": re.compile(r"offer (?P<revision>\d+) by (?P<by>\d+)(?: to (?P<to>\d+))?"),
    "standbys": re.compile(r"standbys(?P<all>( \d+(@\d+)?(/\d+)?)+)"),
}
_TOLD_CAUSES = (ev.TermCause.CRASH, ev.TermCause.SILENCE, ev.TermCause.HANDOVER)


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
    timed: dict[str, Callable[[], ev.Event]] = {
        "observed": lambda: _observed(now, rest),
        "gone": lambda: ev.HolderGone(now, int(rest)),
        "probe committed": lambda: ev.ProbeCommitted(now),
        "probe failed": lambda: ev.ProbeFailed(now),
        "won": lambda: ev.CampaignWon(now, int(rest), now),
        "lost": lambda: _lost(now, rest),
        "unanswered": lambda: ev.CampaignFailed(now),
        "activated": lambda: ev.Activated(now),
        "asked": lambda: ev.HandoverRequested(now, int(rest.removeprefix("for ") or 0)),
        "stop": lambda: ev.StopRequested(now),
        "drained": lambda: ev.Drained(now),
        "drained in part": lambda: ev.Drained(now, complete=False),
        "handover refused": lambda: ev.HandoverRefused(now),
        "handover unknown": lambda: ev.HandoverUnknown(now),
        "tick": lambda: ev.Tick(now),
    }
    if what in _TIMELESS:
        return _TIMELESS[what]
    return timed[what]() if what in timed else timed[name]()


_TIMELESS: dict[str, ev.Event] = {
    "activation failed": ev.ActivationFailed(),
    "fence refused": ev.FenceLost(),
    "lease lost": ev.LeaseLost(),
    "handed over": ev.HandedOver(),
    "resigned": ev.Resigned(),
}


def _observed(now: float, words: str) -> ev.Observed:
    parts = {name: pattern.search(words) for name, pattern in _PARTS.items()}
    active, heartbeat, offer, standbys = (parts[name] for name in _PARTS)
    return ev.Observed(
        now,
        int(words.partition(",")[0]),
        int(active["revision"]) if active else 0,
        int(heartbeat["revision"]) if heartbeat else 0,
        float(heartbeat["guard"]) if heartbeat and heartbeat["guard"] else None,
        int(active["holder"]) if active and active["holder"] else None,
        holder_is_safe=bool(active and active["holder"] and not active["milvus"]),
        heartbeat_settled=bool(heartbeat and not heartbeat["unsettled"]),
        offer=ev.Offer(int(offer["revision"]), int(offer["by"]), int(offer["to"] or 0)) if offer else None,
        standbys=tuple(map(_standby, standbys["all"].split())) if standbys else (),
    )


def _standby(words: str) -> ev.Standby:
    rest, _, offer = words.partition("/")
    server_id, _, report = rest.partition("@")
    return ev.Standby(int(server_id), int(report or 0), int(offer or 0))


def _lost(now: float, words: str) -> ev.CampaignLost:
    active, heartbeat = _PARTS["active"].search(words), _PARTS["heartbeat"].search(words)
    return ev.CampaignLost(
        now,
        int(active["revision"]) if active else 0,
        int(active["holder"]) if active and active["holder"] else None,
        int(heartbeat["revision"]) if heartbeat else 0,
    )


def _outcome(election: el.Election, instructions: Sequence[ev.Instruction]) -> str:
    orders = ", ".join(map(_order, instructions))
    deadline = election.next_deadline()
    tick = "" if deadline is None else f" [{round(deadline, 6)}]"
    return f"{election.state.value}{': ' if orders else ''}{orders}{tick}"


def _order(instruction: ev.Instruction) -> str:
    match instruction:
        case ev.Campaign(active, heartbeat):
            words = f"steal {active} at {heartbeat}" if active else f"campaign {heartbeat}"
        case ev.BeginTerm(epoch, cause):
            words = f"begin term {epoch}{f' ({cause.value})' if cause in _TOLD_CAUSES else ''}"
        case ev.Prepare(offer):
            words = f"prepare {offer}"
        case ev.MakeOffer(_, to):
            words = f"offer to {to}" if to else "offer"
        case ev.Refuse(reason):
            words = f"refuse ({reason.name.lower().replace('_', ' ')})"
        case ev.HandOver(_, heir, report):
            words = f"hand over to {heir} at {report}"
        case ev.Serve(epoch) | ev.Resign(epoch):
            words = f"{type(instruction).__name__.lower()} {epoch}"
        case ev.EndSession(reason):
            words = f"end session ({reason.value})"
        case ev.WithdrawOffer():
            words = "withdraw offer"
        case _:  # Probe, Unprepare, Drain, Reopen
            words = type(instruction).__name__.lower()
    return words
