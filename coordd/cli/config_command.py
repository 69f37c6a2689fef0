"""`coordd config`: show the settings in force and where each came from, check a file.

Exit codes of `check`: 0 nothing wrong, 1 wrong settings, 2 the file cannot be read.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from coordd import log as logging
from coordd.config import LoadedConfig, load_config, with_etcd
from coordd.config.check import check_file
from coordd.config.listing import setting_lines
from coordd.config.settings import Settings
from coordd.etcd import EtcdClient, prefix_end
from coordd.etcd.errors import EtcdError

app = App(name="config", help="Show the settings in force, or check a configuration file.")


@app.command
def show(
    *,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    origin: Annotated[bool, Parameter(negative="")] = False,
    role: Literal["rootcoord", "datacoord", "querycoord"] | None = None,
    etcd: bool = True,
) -> int:
    """Print the settings in force, secrets masked. What etcd holds counts, if it can be reached.

    Args:
        config: milvus.yaml or the directory it is in. Default: $MILVUSCONF, else ./configs.
        origin: Say where each setting came from.
        role: Leave out the sections of the other roles.
        etcd: Whether to ask etcd.
    """
    logging.configure(level="error", stream=sys.stderr)  # standard output is for the settings
    loaded = load_config(config)
    notes = list(loaded.warnings)
    if etcd and not loaded.settings.etcd.use_embed:
        try:
            loaded = asyncio.run(_with_etcd(loaded))
            notes = list(loaded.warnings)
        except (EtcdError, TimeoutError) as error:
            endpoints = ",".join(loaded.settings.etcd.endpoints)
            reason = str(error) or "no answer in time"
            notes.append(f"settings in etcd are not shown, {endpoints} cannot be read: {reason}")
    sys.stdout.writelines(f"{line}\n" for line in setting_lines(loaded, origin=origin, role=role))
    sys.stderr.writelines(f"note: {note}\n" for note in notes)
    return 0


@app.command
def check(file: Path, /, *, verbose: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Check one milvus.yaml (or overlay): every wrong setting with its line and the reason.

    Args:
        file: The file.
        verbose: Also list the settings of Milvus in it that coordd does not read.
    """
    report = check_file(file)
    for error in report.errors:
        sys.stdout.write(f"error: {error}\n")
    for warning in report.warnings:
        sys.stdout.write(f"warning: {warning}\n")
    if verbose:
        sys.stdout.writelines(f"note: {key}\n" for key in report.unread)
    if not report.unreadable:
        counts = f"{_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}"
        unread = (
            f"; {len(report.unread)} settings of Milvus that coordd does not read" if report.unread else ""
        )
        sys.stdout.write(f"{file}: {counts}{unread}\n")
    return report.exit_code


def _count(things: tuple[str, ...], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


async def _with_etcd(loaded: LoadedConfig) -> LoadedConfig:
    async with EtcdClient(loaded.settings.etcd) as client:
        return await with_etcd(loaded, lambda: _read(client, loaded.settings))


async def _read(client: EtcdClient, settings: Settings) -> Mapping[str, str]:
    prefix = settings.etcd.config_prefix + "/"
    found = await client.range(prefix, prefix_end(prefix), serializable=True)
    return {kv.key.removeprefix(prefix): kv.value.decode(errors="replace") for kv in found.kvs}
