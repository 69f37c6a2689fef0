"""Draws the state diagram of the election from the code: `python docs/election_diagram.py [--write]`.

A set of events is tried in every order that the machine takes, and each change of state that happens is an
arrow. `--write` puts the diagram into docs/architecture.md; a test compares the two.
"""

import copy
import re
import sys
from pathlib import Path

from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.election_events import State

ARCHITECTURE = Path(__file__).with_name("architecture.md")
BLOCK = re.compile(r"(<!-- election diagram: begin -->\n).*?(<!-- election diagram: end -->)", re.DOTALL)
ME, OTHER, EPOCH = 1, 2, 10
SILENT, LATE = 3.0, 1_000.0
SAFE = {"holder_is_safe": True, "heartbeat_settled": True}
HEIR = (ev.Standby(OTHER, 20, 19),)

EVENTS: tuple[tuple[str, ev.Event], ...] = (
    ("the ACTIVE key is free", ev.Observed(0.0, 9, 0, 8, 2.0)),
    ("its holder has crashed", ev.Observed(0.0, 9, 7, 8, 2.0, OTHER, **SAFE)),  # seen first
    ("its holder has crashed", ev.HolderGone(0.0, 7)),
    ("its holder is silent", ev.ProbeCommitted(SILENT)),
    ("another holds the ACTIVE key", ev.Observed(0.0, 40, 40, 40, 2.0, OTHER, **SAFE)),
    ("own campaign was carried out", ev.Observed(0.0, EPOCH, EPOCH, EPOCH, 2.0, ME, **SAFE)),
    ("inherited", ev.Observed(0.0, EPOCH, EPOCH, 0, None, ME, **SAFE)),
    ("won", ev.CampaignWon(0.0, EPOCH, 0.0)),
    ("lost", ev.CampaignLost(0.0, 40, OTHER, 40)),
    ("no answer", ev.CampaignFailed(0.0)),
    ("ready to answer", ev.Activated(LATE)),
    ("cannot be made ready", ev.ActivationFailed()),
    ("fence refused", ev.FenceLost()),
    ("lease gone", ev.LeaseLost()),
    ("a handover is asked for", ev.HandoverRequested(0.0)),
    (
        "a standby is ready",
        ev.Observed(0.0, 20, EPOCH, 18, 2.0, ME, offer=ev.Offer(19, ME, 0), standbys=HEIR),
    ),
    ("no standby is ready in time", ev.Tick(LATE)),
    ("asked to stop", ev.StopRequested(0.0)),
    ("nothing in flight", ev.Drained(0.0)),
    ("requests do not end", ev.Drained(0.0, complete=False)),
    ("passed on", ev.HandedOver()),
    ("handover refused", ev.HandoverRefused(0.0)),
    ("handover unknown for long", ev.HandoverUnknown(LATE)),
    ("keys deleted", ev.Resigned()),
)


def transitions() -> list[tuple[State, str, State]]:
    """(from, event, to) of every change of state that can happen, in order of the states."""
    settings = el.ElectionSettings(server_id=ME, serve_guard_s=2.0, margin_s=0.5, heartbeat_interval_s=SILENT)
    start = el.Election(settings)
    found: set[tuple[State, str, State]] = set()
    seen, waiting = {_what_matters(start)}, [start]
    while waiting:
        machine = waiting.pop()
        for name, event in EVENTS:
            if name == "a standby is ready" and not machine.epoch:
                continue  # not yet asked
            after = copy.deepcopy(machine)
            try:
                after.handle(event)
            except el.IllegalEvent:
                continue
            if after.state is not machine.state:
                found.add((machine.state, name, after.state))
            if _what_matters(after) not in seen:
                seen.add(_what_matters(after))
                waiting.append(after)
    states, names = list(State), [name for name, _event in EVENTS]
    return sorted(
        found, key=lambda edge: (states.index(edge[0]), states.index(edge[2]), names.index(edge[1]))
    )


def _what_matters(machine: el.Election) -> tuple[object, ...]:
    """What decides where an event leads; machines that differ in times alone count as one."""
    return tuple(getattr(machine, name) for name in _MEMORY)


_MEMORY = ("state", "_view", "_settled", "_activated", "_stopping", "_drained", "_gone_revision", "heir")


def diagram() -> str:
    """The diagram as a Mermaid block."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for source, name, target in transitions():
        arrows.setdefault((source, target), []).append(name)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> STANDBY: registered"]
    lines += [f"    {a.name} --> {b.name}: {' / '.join(names)}" for (a, b), names in arrows.items()]
    return "\n".join([*lines, "    ENDED --> [*]", "```", ""])


def main() -> int:
    if sys.argv[1:] == ["--write"]:
        text = ARCHITECTURE.read_text("utf-8")
        ARCHITECTURE.write_text(BLOCK.sub(lambda match: match[1] + diagram() + match[2], text), "utf-8")
    else:
        sys.stdout.write(diagram())
    return 0


if __name__ == "__main__":
    sys.exit(main())
