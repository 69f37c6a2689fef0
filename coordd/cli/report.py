"""Reading a cluster's leadership from etcd, and showing it as a table or as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from coordd.etcd import EtcdClient, MemberStatus, prefix_end
from coordd.etcd.version import version_headline, version_warnings
from coordd.ha.status import ReplicaStatus, RoleStatus, lease_ids, role_status, tables_of
from coordd.meta.layout import MetaLayout

PIPE_WIDTH = 140
ROLES = ("rootcoord", "datacoord", "querycoord")
_NARROW = 125
"""A console of fewer characters has no room for all columns side by side."""
_COLUMNS = ("role", "replica", "state", "epoch", "address", "since", "lease", "pid", "lag", "synced")
_WRAPPED = 10
"""A date, and half of an address, in a table that is narrow."""


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """What `coordd status` shows: the roles, the etcd members, and what is wrong with their versions."""

    revision: int
    roles: tuple[RoleStatus, ...]
    members: tuple[MemberStatus, ...]

    def warnings(self) -> list[str]:
        """One sentence for each thing that needs a person's attention."""
        return self._warnings(version_warnings)

    def headlines(self) -> list[str]:
        """The same with one sentence for all the bugs of an etcd version: some have a dozen."""
        return self._warnings(version_headline)

    def _warnings(self, of_version: Callable[[str], list[str]]) -> list[str]:
        found = [f"etcd {member.endpoint}: {member.error}" for member in self.members if member.error]
        for version in sorted({member.version for member in self.members if member.version}):
            found += of_version(version)
        for role in self.roles:
            if role.active is None:
                found.append(f"{role.role}: nobody is active{'' if role.standbys else ', nobody stands by'}")
            found += [
                f"{role.role}: {one.key} does not hold a session record"
                for one in role.replicas
                if one.state == "UNREADABLE"
            ]
        return found

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "revision": self.revision,
            "roles": [asdict(role) for role in self.roles],
            "etcd": [asdict(member) for member in self.members],
            "warnings": self.warnings(),
        }


async def read_report(client: EtcdClient, layout: MetaLayout, roles: Sequence[str] = ROLES) -> ClusterReport:
    """Read the sessions at one revision, then how long their leases have left.

    Raises:
        EtcdError: etcd did not answer.
    """
    result = await client.range(layout.standby_prefix, layout.session_end)
    beats = await client.range(
        layout.heartbeat_prefix, prefix_end(layout.heartbeat_prefix), revision=result.revision
    )
    sessions, heartbeats, reports = tables_of(layout, [*result.kvs, *beats.kvs])
    left = {lease: await client.lease_time_left_s(lease) for lease in sorted(lease_ids(sessions, roles))}
    return ClusterReport(
        result.revision,
        tuple(role_status(role, sessions, heartbeats, reports, left) for role in roles),
        tuple(await client.status()),
    )


def report_console(pipe_width: int = PIPE_WIDTH) -> Console:
    """Standard output, as wide as the terminal; into a file or a pipe wide enough for every column."""
    console = Console()
    return console if console.is_terminal else Console(width=pipe_width)


def replica_table(roles: Sequence[RoleStatus], title: str | None = None, *, width: int = PIPE_WIDTH) -> Table:
    """One row per replica, for a console of so many characters.

    Columns: role, replica, state, epoch, address, since, seconds the lease has left, pid, and for a standby
    by how many etcd revisions it was behind when it last reported, and whether it was following then. On a
    narrow console address and date take two lines, and the pid is left out.
    """
    narrow = width < _NARROW
    padding = (0, 0 if narrow else 1)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=padding)
    shown = [at for at, column in enumerate(_COLUMNS) if not (narrow and column == "pid")]
    for column in (_COLUMNS[at] for at in shown):
        wraps = column in ("address", "since")
        table.add_column(
            column,
            justify="right" if column in ("epoch", "lease", "pid", "lag") else "left",
            no_wrap=not wraps,
            overflow="fold",
            min_width=_WRAPPED if wraps else None,
        )
    for role in roles:
        for replica in role.replicas:
            # As Text: what a record holds is no markup, and [fd00::1]:53100 would be taken for some.
            cells = _cells(replica)
            table.add_row(
                *(Text(cells[at]) for at in shown), style="bold green" if replica.state == "ACTIVE" else None
            )
        if not role.replicas:
            table.add_row(role.role, "none", style="yellow")
    return table


def _cells(replica: ReplicaStatus) -> list[str]:
    return [
        replica.role,
        f"{replica.kind} {'?' if replica.server_id is None else replica.server_id}",
        replica.state,
        str(replica.epoch) if replica.epoch else "",
        replica.address,
        since(replica.since_ms),
        "" if replica.lease_left_s is None else f"{replica.lease_left_s} s",
        str(replica.pid) if replica.pid else "",
        *_report_cells(replica),
    ]


def _report_cells(replica: ReplicaStatus) -> tuple[str, str]:
    """Lag and synced; a coordd standby that has not reported is not known to be warm."""
    if replica.lag is not None:
        return str(replica.lag), "yes" if replica.synced else "no"
    silent = replica.state == "STANDBY" and replica.kind == "coordd"
    return ("?", "?") if silent else ("", "")


def since(unix_ms: int | None) -> str:
    """Local time of a moment, or `unknown` for a process that does not say."""
    if not unix_ms:
        return "unknown"
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
