"""What an etcd server was asked, from its own log.

    async with etcd_cluster(arguments=LOG_REQUESTS) as cluster:
        log = EtcdLog(cluster.members[0])
        ...
        assert log.keys_read() == [...]

At debug level etcd 3.5 logs every request that it has answered, keys included, but only the first hundred of
each second (server/etcdserver/api/v3rpc/interceptor.go, client/pkg/logutil/zap.go). So the number of lines is
compared with what etcd has counted. Watches are streams and not among them.
"""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.etcd import EtcdMember

LOG_REQUESTS = ("--log-level", "debug")
_SAMPLING_S = 1.0
_LINES_LIMIT_S = 5.0
_KEY = r'key:"((?:[^"\\]|\\.)*)"'
_COUNTED = re.compile(
    rb'^grpc_server_handled_total\{.*grpc_service="etcdserverpb\.KV".*\} (\S+)$', re.MULTILINE
)


@dataclass
class EtcdLog:
    """The reads and writes since this was made, which takes a second: then etcd's hundred starts anew."""

    member: EtcdMember
    _start: int = field(init=False)
    _counted: int = field(init=False)

    def __post_init__(self) -> None:
        time.sleep(_SAMPLING_S)
        self._start = self.member.log_path.stat().st_size
        self._counted = self._count()

    def keys_read(self) -> list[str]:
        """The (first) key of each read, in order; reads inside transactions count.

        Fails if etcd has left lines out.
        """
        expected = self._count() - self._counted
        limit = time.monotonic() + _LINES_LIMIT_S
        while len(requests := list(self._requests())) < expected:
            assert time.monotonic() < limit, f"etcd has logged {len(requests)} of {expected} requests"
            time.sleep(0.02)
        return [key for kind, content in requests for key in _keys_read(kind, content)]

    def _requests(self) -> Iterator[tuple[str, str]]:
        with self.member.log_path.open("rb") as log:
            log.seek(self._start)
            for line in log:
                if b'"request stats"' in line and line.endswith(b"\n"):
                    entry = json.loads(line)
                    service, _, kind = entry["response type"].rpartition("/")
                    if service == "/etcdserverpb.KV":
                        yield kind, entry["request content"]

    def _count(self) -> int:
        with urllib.request.urlopen(f"http://{self.member.endpoint}/metrics", timeout=5) as reply:
            return sum(int(float(value)) for value in _COUNTED.findall(reply.read()))


def _keys_read(kind: str, content: str) -> list[str]:
    if kind == "Range":
        return re.findall(rf"^{_KEY}", content)
    return re.findall(rf"request_range:<{_KEY}", content) if kind == "Txn" else []
