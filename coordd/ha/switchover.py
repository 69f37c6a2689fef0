"""An operator's request to move a role's leadership, and the active replica's answer to it.

`<meta>/session-coordd/switchover/<role>` holds JSON. Who asks writes it on a lease of its own, so that a
request does not outlive the one who waits for the answer:

    {"ID":"<uuid>","Epoch":421,"To":0,"By":"host/pid","AtMs":1700000000000,"State":"asked"}

`Epoch` is the mod_revision of the ACTIVE key that was seen: the request is meant for that term alone. `To` is
the heir's server ID, 0: any standby. The active replica answers by writing the key again, off the lease (an
answer must stay until it is read), with `"State":"refused","Reason":"..."`, or in the very transaction that
hands leadership over with `"State":"done","Heir":14`. There is one request at a time: only an answered one
may be overwritten.

Nothing here does I/O.
"""

from dataclasses import dataclass, replace
from enum import Enum

from coordd.etcd import Compare, Event, Put
from coordd.ha.json_object import JsonObject, encode_object
from coordd.meta.codecs import DecodeError
from coordd.meta.keys import SwitchoverKey
from coordd.meta.layout import MetaLayout


class SwitchoverState(Enum):
    """How far a request is; the value is what the key says."""

    ASKED = "asked"
    REFUSED = "refused"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class SwitchoverRequest:
    """The value of the key. `at_ms` is wall-clock Unix ms, for people; `by` is `host/pid`.

    `reason` is set when it was refused, `heir` (a server ID) when it was done.
    """

    id: str
    epoch: int
    to: int
    by: str
    at_ms: int
    state: SwitchoverState = SwitchoverState.ASKED
    reason: str = ""
    heir: int = 0

    @property
    def asked(self) -> bool:
        """It waits for an answer."""
        return self.state is SwitchoverState.ASKED

    def to_json(self) -> bytes:
        """The value of the key."""
        fields: dict[str, object] = {
            "ID": self.id,
            "Epoch": self.epoch,
            "To": self.to,
            "By": self.by,
            "AtMs": self.at_ms,
            "State": self.state.value,
        }
        if self.state is SwitchoverState.REFUSED:
            fields["Reason"] = self.reason
        if self.state is SwitchoverState.DONE:
            fields["Heir"] = self.heir
        return encode_object(fields)


@dataclass(frozen=True, slots=True)
class SwitchoverEntry:
    """The key as last observed. `request` is None when its value is none: whoever asks may overwrite it."""

    key: str
    mod_revision: int
    request: SwitchoverRequest | None

    @property
    def unchanged(self) -> Compare:
        """Holds while the key is as observed: the request was neither withdrawn nor answered."""
        return Compare.mod_revision(self.key, self.mod_revision)


class SwitchoverTable:
    """The requests of all roles."""

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.switchover_prefix
        self._layout = layout
        self._entries: dict[str, SwitchoverEntry] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: not a request; the key stays known by its mod_revision.
        """
        key = self._layout.parse(event.key)
        if not isinstance(key, SwitchoverKey):
            raise DecodeError(event.key, "not the key of a switchover request")
        if event.value is None:
            self._entries.pop(key.role, None)
            return
        self._entries[key.role] = SwitchoverEntry(event.key, event.mod_revision, None)
        request = decode_request(event.key, event.value)
        self._entries[key.role] = SwitchoverEntry(event.key, event.mod_revision, request)

    def get(self, role: str) -> SwitchoverEntry | None:
        """The request of `role`, answered or not, if there is one."""
        return self._entries.get(role)

    def asked(self, role: str) -> SwitchoverEntry | None:
        """The request of `role` that waits for an answer, if there is one."""
        entry = self._entries.get(role)
        return entry if entry is not None and entry.request is not None and entry.request.asked else None


def decode_request(key: str, value: bytes) -> SwitchoverRequest:
    """A request, answered or not.

    Raises:
        DecodeError: not one, or in a state not known here.
    """
    fields = JsonObject.parse(key, value)
    name = fields.text("State")
    try:
        state = SwitchoverState(name)
    except ValueError as error:
        raise DecodeError(key, f"State is {name!r}") from error
    return SwitchoverRequest(
        id=fields.text("ID"),
        epoch=fields.integer("Epoch"),
        to=fields.integer("To", default=0),
        by=fields.text("By", default=""),
        at_ms=fields.integer("AtMs", default=0),
        state=state,
        reason=fields.text("Reason", default=""),
        heir=fields.integer("Heir", default=0),
    )


def answer_refused(entry: SwitchoverEntry, reason: str) -> Put:
    """The refusal of what `entry` asks; to be written with `entry.unchanged` (and the fence) as compare.

    Raises:
        ValueError: the entry holds no request that waits for an answer.
    """
    return _answer(entry, SwitchoverState.REFUSED, reason=reason)


def answer_done(entry: SwitchoverEntry, heir: int) -> Put:
    """The confirmation of what `entry` asks, for the transaction that makes `heir` (a server ID) active.

    Raises:
        ValueError: the entry holds no request that waits for an answer.
    """
    return _answer(entry, SwitchoverState.DONE, heir=heir)


def _answer(entry: SwitchoverEntry, state: SwitchoverState, *, reason: str = "", heir: int = 0) -> Put:
    if entry.request is None or not entry.request.asked:
        raise ValueError(f"{entry.key} holds no request that waits for an answer")
    return Put(entry.key, replace(entry.request, state=state, reason=reason, heir=heir).to_json())
