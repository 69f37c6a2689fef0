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
LATE = 1_000.0

EVENTS: tuple[tuple[str, ev.Event], ...] = (
    ("the ACTIVE key is free", ev.Observed(0.0, 9, 0, 0)),
    ("the ACTIVE key is free", ev.Observed(0.0, 9, 0, 8, holder_guard_s=2.0)),  # its holder has just died
    ("another holds the ACTIVE key", ev.Observed(0.0, 20, 20, 20, 2.0, OTHER)),
    ("own campaign was carried out", ev.Observed(0.0, EPOCH, EPOCH, EPOCH, 2.0, ME)),
    ("won", ev.CampaignWon(0.0, EPOCH, 0.0)),
    ("lost", ev.CampaignLost(0.0, 20, OTHER, 20)),
    ("no answer", ev.CampaignFailed(0.0)),
    ("ready to answer", ev.Activated(LATE)),
    ("cannot be made ready", ev.ActivationFailed()),
    ("fence refused", ev.FenceLost()),
    ("lease gone", ev.LeaseLost()),
    ("asked to stop", ev.StopRequested()),
    ("nothing in flight", ev.Drained()),
    ("keys deleted", ev.Resigned()),
)


def transitions() -> list[tuple[State, str, State]]:
    """(from, event, to) of every change of state that can happen, in order of the states."""
    start = el.Election(el.ElectionSettings(server_id=ME, serve_guard_s=2.0, margin_s=0.5))
    found: set[tuple[State, str, State]] = set()
    seen, waiting = {repr(start)}, [start]
    while waiting:
        machine = waiting.pop()
        for name, event in EVENTS:
            after = copy.deepcopy(machine)
            try:
                after.handle(event)
            except el.IllegalEvent:
                continue
            if after.state is not machine.state:
                found.add((machine.state, name, after.state))
            if repr(after) not in seen:
                seen.add(repr(after))
                waiting.append(after)
    states, names = list(State), [name for name, _event in EVENTS]
    return sorted(
        found, key=lambda edge: (states.index(edge[0]), states.index(edge[2]), names.index(edge[1]))
    )


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
