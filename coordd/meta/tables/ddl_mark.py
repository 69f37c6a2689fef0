"""The marks that metadata changes by RPCs of ours rewrite: each gives the changes under it one order.

`session-coordd/ddl/<name>`, coordd's own; value: the change's hybrid timestamp, decimal, for people to read.
A change is decided upon at one revision of its mark and committed only if that is still its revision. So of
two that were decided upon the same state one wins, whatever keys they write (two databases of one name have
different keys); and a transaction whose outcome stayed unknown can no longer be applied once another
change has been. Milvus' own coordinators do not know the marks, and need not: no term of theirs is ours.

`<name>` is a role, for databases, collections and what is in them; `<role>-access`, for users, roles and
privileges; or `<role>-import`, for bulk inserts. These kinds of change do not wait for each other.
"""

from coordd.etcd import Event
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily


class DdlMark:
    """One mark.

    Attributes:
        key: absolute key in etcd.
        revision: the key's mod_revision as followed; 0 if it does not exist.
    """

    def __init__(self, layout: MetaLayout, name: str) -> None:
        self.key = layout.ddl(name)
        self.families = (KeyFamily(self.key, self._apply),)
        self.generation = 0  # no answer depends on it
        self.revision = 0

    def _apply(self, event: Event) -> None:
        if event.key == self.key:
            self.revision = 0 if event.value is None else event.mod_revision
