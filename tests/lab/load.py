"""Runs load_driver.py in the pymilvus environment: searches and inserts while the test makes trouble."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from coordd.etcd.child import bound_to_parent
from tests.lab.install import LabError, LabFiles

DRIVER = Path(__file__).with_name("load_driver.py")
READY_S = 240.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """``rows``: there from the beginning. ``period_ms``: of each kind of request; milliseconds.

    ``timeout_s``: whole seconds that a call may take. ``ddl``: also make and drop collections all the time.
    """

    rows: int = 1000
    period_ms: int = 50
    timeout_s: int = 30
    ddl: bool = False


@dataclass(frozen=True, slots=True)
class LoadNotes:
    """What the clients noted; see load_driver.py for its form.

    ``kinds``: by kind of request the requests as bench.outage takes them, and the wrong answers.
    """

    kinds: dict[str, dict[str, Any]]
    rows: dict[str, Any]

    def errors(self) -> Counter[str]:
        """How often each error was seen, with the kind of request before it."""
        return Counter(
            f"{name}: {request[3]}"
            for name, kind in self.kinds.items()
            for request in kind["requests"]
            if request[3] is not None
        )

    def wrong(self) -> list[str]:
        """Every wrong answer, and what is wrong with the rows in the end."""
        return [text for kind in self.kinds.values() for text in kind["wrong"]] + self.rows["wrong"]

    def answered(self, name: str) -> int:
        """How many requests of a kind got a good answer."""
        return sum(request[3] is None for request in self.kinds[name]["requests"])


class Load:
    """The clients as a child process, ready when the ``with`` block begins; ended at its end.

    Raises: LabError when they do not become ready, or end by themselves.
    """

    def __init__(self, files: LabFiles, work: Path, port: int, plan: LoadPlan) -> None:
        self._log = work / "load.log"
        spec = json.dumps({**asdict(plan), "port": port})
        with self._log.open("ab") as sink:
            self._popen = subprocess.Popen(
                bound_to_parent([str(files.client_python), "-W", "ignore", str(DRIVER), spec]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={"PATH": os.defpath, "HOME": str(work)},
                text=True,
            )

    def __enter__(self) -> Load:
        assert self._popen.stdout is not None
        readable, _, _ = select.select([self._popen.stdout], [], [], READY_S)
        if not readable or self._popen.stdout.readline() != "ready\n":
            self._end()
            raise LabError(f"the clients did not get ready\n{self._tail()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def stop(self, timeout_s: float = 180.0) -> LoadNotes:
        """Let the requests under way end, and return what was noted. Raises: LabError."""
        try:
            output, _ = self._popen.communicate("stop\n", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise LabError(f"the clients did not end within {timeout_s} s\n{self._tail()}") from None
        if self._popen.returncode != 0:
            raise LabError(f"the clients failed\n{self._tail()}")
        noted = json.loads(output)
        return LoadNotes(noted["kinds"], noted["rows"])

    def _end(self) -> None:
        if self._popen.stdout is not None and not self._popen.stdout.closed:
            self._popen.kill()
            self._popen.communicate(timeout=10)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])
