"""Talks to pymilvus_driver.py in the pymilvus environment: one call, one answer, each with a deadline."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from coordd.etcd.child import bound_to_parent
from tests.lab.install import LabError, LabFiles

DRIVER = Path(__file__).with_name("pymilvus_driver.py")
SURFACE = Path(__file__).with_name("surface") / "driver.py"


class PymilvusClient:
    """A driver (``DRIVER``, ``SURFACE``) as a child process. Leaving the ``with`` block ends it."""

    def __init__(self, files: LabFiles, work: Path, *, driver: Path = DRIVER) -> None:
        self._log = work / "pymilvus.log"
        with self._log.open("ab") as sink:
            self._popen = subprocess.Popen(
                bound_to_parent([str(files.client_python), "-W", "ignore", str(driver)]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={"PATH": os.defpath, "HOME": str(work)},
                text=True,
            )
        self._replies: queue.Queue[str] = queue.Queue(maxsize=16)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._stdin: IO[str] = self._popen.stdin
        self._stdout: IO[str] = self._popen.stdout
        self._reader = threading.Thread(target=self._read, name="pymilvus-replies", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._stdout:
            self._replies.put(line)
        self._replies.put("")

    def __enter__(self) -> PymilvusClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.wait(timeout=10)
        self._reader.join(timeout=10)
        self._stdin.close()
        self._stdout.close()

    def call(self, op: str, *, timeout_s: float = 60, **args: Any) -> Any:
        """Run one operation of the driver.

        Raises: LabError when it failed, ended, or did not answer in time.
        """
        try:
            self._stdin.write(json.dumps({"op": op, "args": args}) + "\n")
            self._stdin.flush()
            line = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            raise LabError(f"pymilvus {op}: no answer within {timeout_s} s\n{self._tail()}") from None
        except OSError as error:
            raise LabError(f"pymilvus {op}: {error}\n{self._tail()}") from error
        if not line:
            raise LabError(f"pymilvus {op}: the driver ended\n{self._tail()}")
        reply = json.loads(line)
        if not reply["ok"]:
            raise LabError(f"pymilvus {op}: {reply['error']}\n{self._tail()}")
        return reply["result"]

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])
