"""`coordd status`: who is active, since when, who stands by, and what etcd says of itself; or past terms."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence

from rich.text import Text

from coordd import log
from coordd.cli import history_report
from coordd.cli.history_report import HistoryReport, history_table, read_history
from coordd.cli.report import ROLES, ClusterReport, read_report, replica_table, report_console
from coordd.clock import unix_ms
from coordd.config import Settings
from coordd.etcd import EtcdClient
from coordd.etcd.errors import EtcdError
from coordd.meta.layout import MetaLayout

WATCH_INTERVAL_S = 1.0


async def status(
    settings: Settings, *, as_json: bool, watch: bool, history: bool = False, role: str | None = None
) -> None:
    """Print one report, or with `watch` one each second until interrupted.

    `history`: the terms of leadership instead of the present state. `role`: of this role only.

    Raises:
        EtcdError: etcd did not answer (without `watch`; with it the error is shown and reading goes on).
    """
    log.configure(level="warn", stream=sys.stderr)  # stdout is the report's
    etcd = settings.etcd
    layout = MetaLayout(etcd.root_path, etcd.meta_sub_path, etcd.kv_sub_path)
    roles = ROLES if role is None else (role,)
    report = _report_history if history else _report_state
    async with EtcdClient(etcd) as client:
        while True:
            try:
                await _print(report, client, layout, roles, as_json=as_json)
            except EtcdError as error:
                if not watch:
                    raise
                sys.stderr.write(f"coordd: {error}\n")
            if not watch:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)


Show = Callable[[], None]
Report = Callable[[EtcdClient, MetaLayout, Sequence[str]], Awaitable[tuple[dict[str, object], Show]]]
"""Reads etcd; returns the report as plain data, and what prints it for people."""


async def _print(
    report: Report, client: EtcdClient, layout: MetaLayout, roles: Sequence[str], *, as_json: bool
) -> None:
    plain, show = await report(client, layout, roles)
    if as_json:
        sys.stdout.write(json.dumps(plain) + "\n")
        sys.stdout.flush()
    else:
        show()


async def _report_state(
    client: EtcdClient, layout: MetaLayout, roles: Sequence[str]
) -> tuple[dict[str, object], Show]:
    report = await read_report(client, layout, roles)
    return report.as_dict(), lambda: show_state(report)


async def _report_history(
    client: EtcdClient, layout: MetaLayout, roles: Sequence[str]
) -> tuple[dict[str, object], Show]:
    report = await read_history(client, layout, roles)
    return report.as_dict(), lambda: _show_history(report)


def show_state(report: ClusterReport) -> None:
    """Print the table, and below it, in a few lines, what else there is to know."""
    console = report_console()
    console.print(replica_table(report.roles, width=console.width))
    for member in report.members:
        if not member.error:
            leader = ", leader" if member.is_leader else ""
            console.print(
                Text(f"etcd {member.endpoint}: {member.version}{leader}, {member.db_size >> 10} KiB")
            )
    headlines, warnings = report.headlines(), report.warnings()
    for warning in headlines:
        console.print(Text(f"warning: {warning}", style="yellow"))
    if len(headlines) < len(warnings):
        console.print(Text("`coordd status --json` lists all bugs", style="yellow"))


def _show_history(report: HistoryReport) -> None:
    console = report_console(history_report.PIPE_WIDTH)
    if not report.entries:
        console.print(Text("no term of leadership is on record"))
        return
    console.print(history_table(report, unix_ms()))
    for warning in report.warnings():
        console.print(Text(f"warning: {warning}", style="yellow"))
