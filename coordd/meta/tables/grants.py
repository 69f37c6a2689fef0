"""What roles may do: grants (role and object) and the privileges in each.

A grant is one key with a grant ID, and one key per privilege under that ID. Deleting a role's grants leaves
the privilege keys behind in Milvus, and granting again under the same key finds them again: the ID is a hash
of the key.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go, pkg/util/funcutil/policy.go.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coordd.etcd import Event
from coordd.meta.codecs import decode_text
from coordd.meta.keys import is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import DEFAULT_DB_NAME, KeyFamily, malformed, require


@dataclass(frozen=True, slots=True)
class Grant:
    """One grant of a role on an object.

    `object_key` is the last part of the key: `<db>.<object>`, or `<object>` from before there were databases.
    """

    role: str
    object_type: str
    object_key: str
    grant_id: str

    @property
    def db_name(self) -> str:
        """The database; the default one where the key names none."""
        return split_object_key(self.object_key)[0]

    @property
    def object_name(self) -> str:
        """The object without its database."""
        return split_object_key(self.object_key)[1]


def split_object_key(object_key: str) -> tuple[str, str]:
    """Database and object name, split at the first dot (Milvus drops what follows a second one)."""
    db_name, dot, object_name = object_key.partition(".")
    return (db_name, object_name) if dot else (DEFAULT_DB_NAME, object_key)


class GrantTable:
    """All grants and their privileges, in key order."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (
            KeyFamily(layout.grantee_prefix, self._apply_grant),
            KeyFamily(layout.grantee_id_prefix, self._apply_privilege),
        )
        self.generation = 0
        self._layout = layout
        self._grants: dict[str, dict[tuple[str, str], Grant]] = {}
        self._grantors: dict[str, dict[str, str]] = {}

    def __iter__(self) -> Iterator[Grant]:
        for role in sorted(self._grants, key=lambda name: f"{name}/"):
            yield from self.of_role(role)

    def of_role(self, role: str) -> list[Grant]:
        """The grants of a role."""
        grants = self._grants.get(role, {})
        return [grants[where] for where in sorted(grants, key=lambda where: f"{where[0]}/{where[1]}")]

    def get(self, role: str, object_type: str, object_key: str) -> Grant | None:
        """The grant under exactly this key."""
        return self._grants.get(role, {}).get((object_type, object_key))

    def privileges(self, grant_id: str) -> list[tuple[str, str]]:
        """(privilege as stored, name of the user who granted it) of one grant, by privilege."""
        return sorted(self._grantors.get(grant_id, {}).items())

    def _apply_grant(self, event: Event) -> None:
        parts = event.key[len(self._layout.grantee_prefix) :].split("/")
        if len(parts) != 3 or not all(map(is_segment, parts)):
            raise malformed(event.key, "a grant")
        role, object_type, object_key = parts
        self.generation += 1
        grants = self._grants.pop(role, {})
        grants.pop((object_type, object_key), None)
        try:
            if event.value is not None:
                grant_id = decode_text(event.key, event.value)
                require(event.key, condition=is_segment(grant_id), reason=f"no grant ID: {grant_id!r}")
                grants[object_type, object_key] = Grant(role, object_type, object_key, grant_id)
        finally:
            if grants:
                self._grants[role] = grants

    def _apply_privilege(self, event: Event) -> None:
        grant_id, _, privilege = event.key[len(self._layout.grantee_id_prefix) :].partition("/")
        if not is_segment(grant_id) or not is_segment(privilege):
            raise malformed(event.key, "a granted privilege")
        self.generation += 1
        grantors = self._grantors.pop(grant_id, {})
        grantors.pop(privilege, None)
        try:
            if event.value is not None:
                grantors[privilege] = decode_text(event.key, event.value)
        finally:
            if grantors:
                self._grantors[grant_id] = grantors
