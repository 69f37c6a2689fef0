"""The message queue that a configuration means."""

from pathlib import Path

from coordd.config import load_config
from coordd.mq import MessageQueue, queue_maker


def configured_queue(folder: Path, text: str) -> MessageQueue:
    """As a milvus.yaml with this text in `folder` has it; fails if that wants none."""
    path = folder / "milvus.yaml"
    path.write_text(text)
    make = queue_maker(load_config(path, {}, folder))
    assert make is not None
    return make()
