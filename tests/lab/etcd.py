"""The lab's etcd: one member on loopback, and what it holds, read and written over etcd's JSON gateway.

The only place of the lab that knows how etcd is started.
"""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from tests.support.etcd import running_cluster


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


class LabEtcd:
    """Serves from the constructor until ``stop``; ``arguments`` are added to etcd's command line.

    Attributes:
        member: the server's process.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        with ExitStack() as stack:
            cluster = stack.enter_context(running_cluster(arguments=arguments))
            self.endpoint = cluster.endpoints[0]
            self.member = cluster.members[0]
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End the process and remove its data. Idempotent."""
        self._stack.close()

    def dump(self, prefix: str = "") -> dict[str, bytes]:
        """All keys below a prefix with their values, of one revision."""
        start = prefix.encode() or b"\0"
        end = start[:-1] + bytes([start[-1] + 1]) if prefix else b"\0"
        answer = self._post("/v3/kv/range", {"key": _encode(start), "range_end": _encode(end)})
        return {
            base64.b64decode(kv["key"]).decode("utf-8", "surrogateescape"): base64.b64decode(
                kv.get("value", "")
            )
            for kv in answer.get("kvs", [])
        }

    def load(self, pairs: Mapping[str, bytes]) -> None:
        """Put keys, each on its own."""
        for key, value in pairs.items():
            body = {"key": _encode(key.encode("utf-8", "surrogateescape")), "value": _encode(value)}
            self._post("/v3/kv/put", body)

    def delete(self, key: str) -> None:
        """Delete one key."""
        self._post("/v3/kv/deleterange", {"key": _encode(key.encode())})

    def lease_left_s(self, lease_id: int) -> int:
        """Whole seconds that a lease has left, rounded down; -1 when it has ended."""
        # Zero is left out of the answer.
        return int(self._post("/v3/lease/timetolive", {"ID": str(lease_id)}).get("TTL", 0))

    def revoke_lease(self, lease_id: int) -> None:
        """End a lease, and with it all keys on it."""
        self._post("/v3/lease/revoke", {"ID": str(lease_id)})

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(f"http://{self.endpoint}{path}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as reply:
            answer: dict[str, Any] = json.load(reply)
        return answer
