"""The mark that every metadata change by an RPC of ours rewrites: it gives these changes one order.

`session-coordd/ddl/<role>`, coordd's own; value: the change's hybrid timestamp, decimal, for people to read.
A change is decided upon at one revision of the mark and committed only if that is still its revision. So of
two that were decided upon the same state one wins, whatever keys they write (two databases of one name have
different keys); and a transaction whose outcome stayed unknown can no longer be applied once another
change has been. Milvus' own coordinators do not know the mark, and need not: no term of theirs is ours.
"""

from coordd.etcd import Event
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily


class DdlMark:
    """The mark of one role.

    Attributes:
        key: absolute key in etcd.
        revision: the key's mod_revision as followed; 0 if it does not exist.
    """

    def __init__(self, layout: MetaLayout, role: str) -> None:
        self.families = (KeyFamily(layout.ddl_prefix, self._apply),)
        self.generation = 0  # no answer depends on it
        self.key = layout.ddl(role)
        self.revision = 0

    def _apply(self, event: Event) -> None:
        if event.key == self.key:
            self.revision = 0 if event.value is None else event.mod_revision
