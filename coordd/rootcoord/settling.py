"""After a write of unknown outcome: wait for what has become of it, and only then tell others.

etcd may carry it out late, and whoever was told before can by then have learnt the old state again. Nobody
else would tell them: the call need not be repeated, and the term goes on.
"""

from functools import partial

from coordd.clock import boottime
from coordd.meta.commit import TIMEOUT_S
from coordd.rootcoord.ddl import Changes
from coordd.rootcoord.steps import Action, Lane, Step


async def settle(changes: Changes) -> None:
    """Return when it is known what has become of all earlier writes.

    Raises what `Ddl.carry_out` does: that is not known within `TIMEOUT_S`.
    """
    await changes.carry_out(lambda _stamp: (), deadline=boottime() + TIMEOUT_S)


def settle_and_forget(changes: Changes, forget: Action) -> list[Step]:
    """The steps in the background. `forget` has the proxies forget what the write was to change."""
    return [
        Step("settle", partial(settle, changes)),
        Step("proxies forget", forget, lane=Lane.PROXIES),
    ]
