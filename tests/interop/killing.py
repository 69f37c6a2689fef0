"""Kills of the active rootcoord of a pair, one, or again and again while the test does something else."""

import json
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from tests.lab.cluster import Component, MilvusLab

ACTIVE_KEY = "by-dev/meta/session/rootcoord"


def active(lab: MilvusLab) -> Component:
    """The process that holds the ACTIVE key."""
    address = json.loads(lab.etcd.dump(ACTIVE_KEY)[ACTIVE_KEY])["Address"]
    [found] = [one for one in lab.components if one.role == "rootcoord" and one.address == address]
    return found


def standby(lab: MilvusLab) -> Component:
    """The other one that lives."""
    leader = active(lab)
    [found] = [
        one for one in lab.components if one.role == "rootcoord" and one.process.alive() and one is not leader
    ]
    return found


def start_standby(lab: MilvusLab) -> None:
    """Start another coordd, which stands by then."""
    lab.start_coordd("rootcoord", name=f"coordd-{len(lab.components)}").wait_standby()


def kill_active(lab: MilvusLab) -> None:
    """Kill it, wait until another is active, and start a new standby."""
    before, heir = active(lab), standby(lab)
    before.process.signal(signal.SIGKILL)
    heir.wait_state("Healthy")
    start_standby(lab)


class Killing:
    """Between ``resume`` and ``pause`` the active rootcoord is killed again and again.

    There must be a pair at ``resume``, and there is one after ``pause``. In between nobody else may start
    processes. `pause_s`: from the moment when there is a standby again to the next kill, for the clients to
    work in. ``kills``: how many there have been. ``close`` ends what was started here, too: a process of the
    lab ends with the thread that has started it.
    """

    def __init__(self, lab: MilvusLab, pause_s: float) -> None:
        self.kills = 0
        self._lab = lab
        self._pause_s = pause_s
        self._paused = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="killing")
        self._running: Future[None] | None = None

    def resume(self) -> None:
        """Go on, if it was paused."""
        if self._running is None:
            self._paused.clear()
            self._running = self._pool.submit(self._run)

    def pause(self) -> None:
        """Bring the kill under way to its end. Raises: LabError when after a kill nobody came up."""
        self._paused.set()
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def close(self) -> None:
        """Pause for good."""
        try:
            self.pause()
        finally:
            self._pool.shutdown()

    def _run(self) -> None:
        while not self._paused.wait(self._pause_s):
            kill_active(self._lab)
            self.kills += 1
