"""The marks that metadata changes by RPCs of ours rewrite: each gives the changes under it one order.

`session-coordd/ddl/<name>`, coordd's own; value: the change's hybrid timestamp, decimal, for people to read,
and after it the calls that were carried out last, each as ` <fingerprint>:<Unix seconds>`.
A change is decided upon at one revision of its mark and committed only if that is still its revision. So of
two that were decided upon the same state one wins, whatever keys they write (two databases of one name have
different keys); and a transaction whose outcome stayed unknown can no longer be applied once another
change has been. Milvus' own coordinators do not know the marks, and need not: no term of theirs is ours.

The calls are there because a term may end between a change and the answer, and the caller then repeats the
call: see `coordd.rootcoord.ddl`.

`<name>` is a role, for databases, collections and what is in them; `<role>-access`, for users, roles and
privileges; or `<role>-import`, for bulk inserts. These kinds of change do not wait for each other.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Final

from coordd.etcd import Event
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily

CALLS_KEPT: Final = 32
"""More calls than ever wait for an answer when a term ends; a bound on the value's size (some 800 bytes)."""
CALLS_KEPT_S: Final = 60
"""As long as Milvus' clients repeat a call, and some."""

_CALL: Final = re.compile(rb"([0-9a-f]{12}):([0-9]{1,12})")


class DdlMark:
    """One mark.

    Attributes:
        key: absolute key in etcd.
        revision: the key's mod_revision as followed; 0 if it does not exist.
        calls: the calls that were carried out last, by fingerprint: when, in Unix seconds; the newest last.
    """

    def __init__(self, layout: MetaLayout, name: str) -> None:
        self.key = layout.ddl(name)
        self.families = (KeyFamily(self.key, self._apply),)
        self.generation = 0  # no answer depends on it
        self.revision = 0
        self.calls: Mapping[str, int] = {}

    def next_value(self, timestamp: int, now_s: int, call: str = "") -> bytes:
        """The value after one more change, which carries out `call`, if that has a fingerprint.

        `timestamp`: the change's hybrid timestamp, `now_s` the Unix seconds in it.
        """
        young = {one: at_s for one, at_s in self.calls.items() if now_s - at_s <= CALLS_KEPT_S}
        if call:
            young.pop(call, None)
            young[call] = now_s
        kept = islice(young.items(), max(0, len(young) - CALLS_KEPT), None)
        return " ".join([str(timestamp), *(f"{one}:{at_s}" for one, at_s in kept)]).encode()

    def _apply(self, event: Event) -> None:
        if event.key != self.key:
            return
        self.revision = 0 if event.value is None else event.mod_revision
        matches = map(_CALL.fullmatch, (event.value or b"").split()[1:])
        self.calls = {match[1].decode(): int(match[2]) for match in matches if match is not None}
