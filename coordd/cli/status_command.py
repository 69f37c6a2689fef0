"""`coordd status`: who is active, since when, who stands by, and what etcd says of itself."""

import asyncio
import json
import sys

from rich.console import Console
from rich.text import Text

from coordd import log
from coordd.cli.report import ClusterReport, read_report, replica_table, report_console
from coordd.config import Settings
from coordd.etcd import EtcdClient
from coordd.etcd.errors import EtcdError
from coordd.meta.layout import MetaLayout

WATCH_INTERVAL_S = 1.0


async def status(settings: Settings, *, as_json: bool, watch: bool) -> None:
    """Print one report, or with `watch` one each second until interrupted.

    Raises:
        EtcdError: etcd did not answer (without `watch`; with it the error is shown and reading goes on).
    """
    log.configure(level="warn", stream=sys.stderr)  # stdout is the report's
    etcd = settings.etcd
    layout = MetaLayout(etcd.root_path, etcd.meta_sub_path, etcd.kv_sub_path)
    console = report_console()
    async with EtcdClient(etcd) as client:
        while True:
            try:
                _print(console, await read_report(client, layout), as_json=as_json)
            except EtcdError as error:
                if not watch:
                    raise
                sys.stderr.write(f"coordd: {error}\n")
            if not watch:
                return
            await asyncio.sleep(WATCH_INTERVAL_S)


def _print(console: Console, report: ClusterReport, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.as_dict()) + "\n")
        sys.stdout.flush()
        return
    console.print(replica_table(report.roles))
    for member in report.members:
        if not member.error:
            leader = ", leader" if member.is_leader else ""
            console.print(
                Text(f"etcd {member.endpoint}: {member.version}{leader}, {member.db_size >> 10} KiB")
            )
    for warning in report.warnings():
        console.print(Text(f"warning: {warning}", style="yellow"))
