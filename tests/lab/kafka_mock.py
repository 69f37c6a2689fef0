"""A Kafka broker for the lab: librdkafka's mock cluster, alive as long as this process.

``python -m tests.lab.kafka_mock FILE`` writes ``127.0.0.1:<port>`` to FILE and sleeps until it is killed.
Topics appear on first use; at most 5 MB per partition are kept, which is plenty for ticks and DDL messages.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer


def main() -> None:
    """Start the broker, publish its address, wait."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 3})
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    target = Path(sys.argv[1])
    partial = target.with_suffix(".partial")
    partial.write_text(f"{broker.host}:{broker.port}")
    partial.rename(target)
    signal.pause()


if __name__ == "__main__":
    main()
