"""The privilege groups that users have made (Milvus 2.5). None of their keys has snapshots.

Source of truth: Milvus branch 2.5 internal/metastore/kv/rootcoord/kv_catalog.go.
"""

from collections.abc import Iterator

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError, decode_proto
from coordd.meta.keys import is_clean_path
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily, malformed
from coordd.pb.milvus_pb2 import PrivilegeGroupInfo


class PrivilegeGroupTable:
    """Members of the groups, as clients name privileges, in the order in which they are stored."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.privilege_group_prefix, self._apply),)
        self.generation = 0
        self._prefix_length = len(layout.privilege_group_prefix)
        self._groups: dict[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, name: str) -> bool:
        return name in self._groups

    def __iter__(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(group, members), by name."""
        return iter(sorted(self._groups.items()))

    def get(self, name: str) -> tuple[str, ...] | None:
        """The members of a group; None if there is no such group."""
        return self._groups.get(name)

    def _apply(self, event: Event) -> None:
        name = event.key[self._prefix_length :]
        if not is_clean_path(name):
            raise malformed(event.key, "a privilege group")
        self.generation += 1
        self._groups.pop(name, None)
        if event.value is None:
            return
        info = decode_proto(event.key, event.value, PrivilegeGroupInfo)
        if info.group_name != name:
            raise DecodeError(event.key, f"holds privilege group {info.group_name!r}")
        self._groups[name] = tuple(dict.fromkeys(privilege.name for privilege in info.privileges))
