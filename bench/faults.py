"""The events by which leadership passes: what brings each about, and what makes the pair whole again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from bench.group import Group
from tests.lab.cluster import Component

_END_S = 15.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of event.

    ``inflict`` gets the active's process and the pid of the replica itself, which may be a child of that.
    ``planned``: somebody asked for it, so nothing may fail. ``gated``: the processes need gates to etcd.
    ``products`` tells who can be put to it.
    """

    name: str
    inflict: Callable[[Group, Component, int], None]
    repair: Callable[[Group, Component], None]
    planned: bool = False
    fast: bool = False
    gated: bool = False
    products: tuple[str, ...] = ("coordd", "milvus")


def _send(number: signal.Signals) -> Callable[[Group, Component, int], None]:
    return lambda _group, _active, pid: os.kill(pid, number)


def _mend(group: Group, old: Component) -> None:
    """coordd's processes mend themselves; of Milvus' none is fit to stand by again."""
    if group.name == "milvus":
        group.replace(old)
    else:
        group.make_whole()


def _ended(group: Group, old: Component) -> None:
    if group.name == "coordd":
        old.process.wait(_END_S)
    group.replace(old)


def _heal(group: Group, old: Component) -> None:
    group.gate(old).heal()
    _mend(group, old)


def _go_on(group: Group, old: Component) -> None:
    group.continue_host()
    _mend(group, old)


FAULTS = (
    Fault(
        "switchover",
        lambda group, active, _pid: group.switchover(active),
        _mend,
        planned=True,
        fast=True,
        products=("coordd",),
    ),
    Fault(
        "SIGTERM",
        lambda _group, active, _pid: active.process.signal(signal.SIGTERM),
        _ended,
        planned=True,
        fast=True,
    ),
    Fault("kill -9", _send(signal.SIGKILL), _mend, fast=True),
    Fault("SIGSTOP", _send(signal.SIGSTOP), _mend),
    Fault("partition from etcd", lambda group, active, _pid: group.gate(active).cut(), _heal, gated=True),
    # A process of Milvus has nobody to look after it: the same as SIGSTOP.
    Fault("dropped host", Group.stop_host, _go_on, products=("coordd",)),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
