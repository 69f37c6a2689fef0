"""Per-method counts and latencies, kept as plain numbers so that a hot call pays no lock; read at scrape.

Belongs to one event loop. Latencies are of answers without error only, as Milvus counts them.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

# Milvus' buckets are 1, 2, 4 … 131072 ms; the finer ones below 1 ms are ours: answers from memory lie there.
BUCKETS_MS = (0.05, 0.1, 0.25, 0.5, *(float(1 << power) for power in range(18)))


QUEUE_BOUNDS_MS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""For time spent in a queue. Milvus leaves Prometheus' own bounds there, which are meant for seconds."""


@dataclass(slots=True, eq=False)
class QueueStats:
    """How long calls waited for their turn.

    Attributes:
        buckets: turns per bucket of `QUEUE_BOUNDS_MS`, not cumulated; the last one is +Inf.
        total_s: sum of the waits.
    """

    buckets: list[int] = field(default_factory=lambda: [0] * (len(QUEUE_BOUNDS_MS) + 1))
    total_s: float = 0.0

    def turn(self, waited_s: float) -> None:
        """Count one that has its turn now."""
        self.buckets[bisect_left(QUEUE_BOUNDS_MS, waited_s * 1000.0)] += 1
        self.total_s += waited_s


@dataclass(slots=True, eq=False)
class MethodStats:
    """What has happened to the calls of one method.

    Attributes:
        answered: answers by merr code of their status; 0 is success.
        failed: calls that ended as a gRPC error, by its number.
        buckets: successful answers per bucket of `BUCKETS_MS`, not cumulated; the last one is +Inf.
        total_s: sum of the latencies of successful answers.
        held: calls that had to wait for the serve guard, or for a handover to end.
        forwarded: calls that were passed on to the replica that leadership was handed to.
        bugs: answers "unexpected error".
    """

    answered: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    total_s: float = 0.0
    held: int = 0
    forwarded: int = 0
    bugs: int = 0

    def answer(self, merr_code: int, seconds: float) -> None:
        """Count one answer; `seconds` is its time from arrival."""
        self.answered[merr_code] = self.answered.get(merr_code, 0) + 1
        if merr_code == 0:
            self.buckets[bisect_left(BUCKETS_MS, seconds * 1000.0)] += 1
            self.total_s += seconds

    def fail(self, grpc_code: int) -> None:
        """Count one call that ended as a gRPC error."""
        self.failed[grpc_code] = self.failed.get(grpc_code, 0) + 1
