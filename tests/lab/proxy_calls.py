"""Talks to proxy_call_driver.py in the pymilvus environment: one call to a proxy, one outcome."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType

from coordd.etcd.child import bound_to_parent
from tests.lab.install import LabFiles

DRIVER = Path(__file__).with_name("proxy_call_driver.py")

CALLS = (
    *("Search", "Query", "Insert", "Upsert", "Delete", "LoadCollection", "Flush", "HasCollection"),
    "DropCollection",
)


class ProxyCalls:
    """The driver as a child process. Leaving the ``with`` block ends it."""

    def __init__(self, files: LabFiles, work: Path, address: str) -> None:
        with (work / "proxy-calls.log").open("ab") as sink:
            self._popen = subprocess.Popen(
                bound_to_parent([str(files.client_python), "-W", "ignore", str(DRIVER), address]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={"PATH": os.defpath, "HOME": str(work)},
                text=True,
            )

    def __enter__(self) -> ProxyCalls:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.communicate(timeout=10)

    def call(self, name: str) -> str:
        """Why the call failed, "" if it did not."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(f"{name}\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        assert line, f"the driver ended at {name}"
        return line.strip()
