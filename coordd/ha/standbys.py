"""How an heir is found: what standbys report of themselves, and the active replica's offer.

`<meta>/session-coordd/standby/<role>-<id>` hangs on the standby's lease and holds JSON
`{"ServerID":13,"Revision":881,"Synced":true,"Offer":0}`: the etcd revision that its tables held when it wrote
this, whether its watch was delivering, and the offer it answers (0: none). The report itself takes the next
revision, so what the standby was behind by is `mod_revision - 1 - Revision`.

`<meta>/session-coordd/offer/<role>` holds JSON `{"ServerID":12,"To":0}`: the active replica 12 asks for an
heir, any (0) or a certain one. Its revision is what a report names as `Offer`.

An unreadable report or offer counts as none: it never makes a replica an heir.
"""

from dataclasses import dataclass

from coordd.etcd import Event
from coordd.ha.json_object import JsonObject, encode_object
from coordd.meta.codecs import DecodeError
from coordd.meta.keys import OfferKey, StandbyReportKey
from coordd.meta.layout import MetaLayout


@dataclass(frozen=True, slots=True)
class StandbyReport:
    """The latest report of one standby. `offer` is the mod_revision of the offer that it answers, or 0."""

    server_id: int
    revision: int
    synced: bool
    offer: int
    mod_revision: int

    @property
    def lag(self) -> int:
        """By how many revisions the tables were behind etcd when the report was committed."""
        return max(0, self.mod_revision - 1 - self.revision)


@dataclass(frozen=True, slots=True)
class Offer:
    """`server_id`, who is active, looks for an heir: `to`, or with 0 whoever answers first."""

    server_id: int
    to: int
    mod_revision: int

    def is_for(self, server_id: int) -> bool:
        """Whether this standby may answer it."""
        return self.server_id != server_id and self.to in (0, server_id)


class StandbyReportTable:
    """The reports of all standbys of all roles.

    Attributes:
        changes: how often an event was taken in.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.standby_prefix
        self.changes = 0
        self._layout = layout
        self._reports: dict[StandbyReportKey, StandbyReport] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: not a report, or not one of the server that the key names.
        """
        key = self._layout.parse(event.key)
        if not isinstance(key, StandbyReportKey):
            raise DecodeError(event.key, "not the key of a standby's report")
        self.changes += 1
        self._reports.pop(key, None)
        if event.value is None:
            return
        report = decode_report(event.key, event.value, event.mod_revision)
        if report.server_id != key.server_id:
            raise DecodeError(event.key, f"ServerID is {report.server_id}")
        self._reports[key] = report

    def get(self, role: str, server_id: int) -> StandbyReport | None:
        """The report of one standby, if there is one."""
        return self._reports.get(StandbyReportKey(role, server_id))

    def of_role(self, role: str) -> list[StandbyReport]:
        """All reports on one role, in order of their server IDs."""
        reports = [report for key, report in self._reports.items() if key.role == role]
        return sorted(reports, key=lambda report: report.server_id)

    def answers(self, role: str, offer: Offer) -> list[StandbyReport]:
        """The reports that answer this offer, the first answer first."""
        reports = [report for report in self.of_role(role) if report.offer == offer.mod_revision]
        return sorted(reports, key=lambda report: report.mod_revision)


class OfferTable:
    """The offers of all roles."""

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.offer_prefix
        self._layout = layout
        self._offers: dict[str, Offer] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: not an offer.
        """
        key = self._layout.parse(event.key)
        if not isinstance(key, OfferKey):
            raise DecodeError(event.key, "not the key of an offer")
        self._offers.pop(key.role, None)
        if event.value is not None:
            self._offers[key.role] = decode_offer(event.key, event.value, event.mod_revision)

    def get(self, role: str) -> Offer | None:
        """The offer of `role`, if there is one."""
        return self._offers.get(role)


def encode_report(server_id: int, revision: int, *, synced: bool, offer: int = 0) -> bytes:
    """The value of a standby's report. `revision` must be in the tables in full."""
    return encode_object({"ServerID": server_id, "Revision": revision, "Synced": synced, "Offer": offer})


def decode_report(key: str, value: bytes, mod_revision: int) -> StandbyReport:
    """A standby's report.

    Raises:
        DecodeError: not one.
    """
    fields = JsonObject.parse(key, value)
    return StandbyReport(
        server_id=fields.integer("ServerID"),
        revision=fields.integer("Revision"),
        synced=fields.flag("Synced", default=False),
        offer=fields.integer("Offer", default=0),
        mod_revision=mod_revision,
    )


def encode_offer(server_id: int, to: int = 0) -> bytes:
    """The value of an offer."""
    return encode_object({"ServerID": server_id, "To": to})


def decode_offer(key: str, value: bytes, mod_revision: int) -> Offer:
    """An offer.

    Raises:
        DecodeError: not one.
    """
    fields = JsonObject.parse(key, value)
    return Offer(fields.integer("ServerID"), fields.integer("To", default=0), mod_revision)
