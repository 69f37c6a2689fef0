"""The records of bulk inserts. None of their keys has snapshots.

Source of truth: Milvus 2.3.5 internal/rootcoord/import_manager.go (BuildImportTaskKey, persistTaskInfo).
"""

from collections.abc import Iterator

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError, decode_proto
from coordd.meta.keys import ImportTaskKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily, malformed, require
from coordd.pb.data_coord_pb2 import ImportTaskInfo


class ImportTaskTable:
    """Import tasks by ID. Do not modify the messages in it.

    A task whose value is quarantined is in no list, yet `is_damaged`: it is not an unknown one.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.import_task_prefix, self._apply),)
        self.generation = 0  # no kept answer depends on it
        self._layout = layout
        self._tasks: dict[int, ImportTaskInfo] = {}
        self._damaged: set[int] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[ImportTaskInfo]:
        """All tasks by ID, which is the order of their creation."""
        return iter([self._tasks[task_id] for task_id in sorted(self._tasks)])

    def get(self, task_id: int) -> ImportTaskInfo | None:
        """The task; None if there is none of that ID, or it cannot be read."""
        return self._tasks.get(task_id)

    def is_damaged(self, task_id: int) -> bool:
        """Whether the task exists, but with a value that is quarantined."""
        return task_id in self._damaged

    def newest_id(self) -> int:
        """The largest ID, damaged tasks included; 0 if there is none."""
        return max((*self._tasks, *self._damaged), default=0)

    def _apply(self, event: Event) -> None:
        parsed = self._layout.parse(event.key)
        if not isinstance(parsed, ImportTaskKey):
            raise malformed(event.key, "an import task")
        task_id = parsed.task_id
        self._tasks.pop(task_id, None)
        self._damaged.discard(task_id)
        if event.value is None:
            return
        try:
            task = decode_proto(event.key, event.value, ImportTaskInfo)
            require(event.key, condition=task.id == task_id, reason=f"holds import task {task.id}")
        except DecodeError:
            self._damaged.add(task_id)
            raise
        self._tasks[task_id] = task
