"""The message queue: channels that carry what data nodes and query nodes read.

One interface, `MessageQueue`, over Kafka and Pulsar. What the bytes of a message are is not known here. The
clients of Kafka and Pulsar are optional dependencies, imported when they are used.
"""

from coordd.mq.choice import QueueType, choose, queue_maker
from coordd.mq.types import MessageQueue

__all__ = ["MessageQueue", "QueueType", "choose", "queue_maker"]
