"""The `coordd` command: its subcommands, and how errors reach a person.

Exit codes: 0 done, 1 an error that the message explains, 2 a wrong command line, 130 interrupted.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import uvloop
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from coordd.cli import config_command, dev_command, status_command, switchover_command
from coordd.config import load_config
from coordd.daemon import Daemon
from coordd.errors import CoorddError
from coordd.supervisor import ParentLink
from coordd.version import MILVUS_VERSION, coordd_version

Role = Literal["rootcoord", "datacoord", "querycoord", "mixcoord"]
OneRole = Literal["rootcoord", "datacoord", "querycoord"]
ConfigPath = Annotated[Path | None, Parameter(name=["--config", "-c"])]

ROLES: dict[Role, tuple[str, ...]] = {
    "rootcoord": ("rootcoord",),
    "datacoord": ("datacoord",),
    "querycoord": ("querycoord",),
    "mixcoord": ("rootcoord", "datacoord", "querycoord"),
}

app = App(
    name="coordd",
    help="The coordinators of a Milvus cluster, in active-standby groups that take over in milliseconds.",
    version=coordd_version,
    result_action="return_value",
    exit_on_error=False,
    print_error=True,
)
app.command(config_command.app)


@app.command
def run(
    role: Role,
    /,
    *,
    config: ConfigPath = None,
    watchdog: bool = True,
    parent: Annotated[ParentLink | None, Parameter(parse=False)] = None,
) -> None:
    """Run a coordinator until it is told to stop (SIGTERM, SIGINT).

    Args:
        role: Which one; mixcoord is all three in one process.
        config: milvus.yaml or the directory it is in. Default: $MILVUSCONF, else ./configs.
        watchdog: Let a small parent process kill it and start it again when it hangs.
        parent: The way to that process, if there is one.
    """
    loaded = load_config(config)
    _run_async(Daemon(loaded, ROLES[role], mixed=role == "mixcoord", parent=parent, watchdog=watchdog).run())


@app.command
def dev(
    *, replicas: Annotated[int, Parameter(validator=Number(gte=1))] = 2, data: Path | None = None
) -> None:
    """Try it: an embedded etcd and a group of rootcoord replicas on free ports, with a live table.

    Args:
        replicas: How many replicas to start.
        data: Directory for etcd's data and the logs. Default: a temporary one, removed at the end.
    """
    _run_async(dev_command.dev(replicas, data))


@app.command
def status(
    *,
    config: ConfigPath = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    watch: bool = False,
    history: bool = False,
    role: OneRole | None = None,
) -> None:
    """Show for each role who is active, since when, and who stands by, as etcd has it.

    A standby's lag is by how many etcd revisions its tables were behind when it last reported.

    Args:
        config: milvus.yaml or the directory it is in. Default: $MILVUSCONF, else ./configs.
        as_json: Print JSON, one object per report.
        watch: Go on and report each second until interrupted.
        history: Show the terms of leadership on record instead, the newest last.
        role: Of this role only.
    """
    settings = load_config(config).settings
    _run_async(status_command.status(settings, as_json=as_json, watch=watch, history=history, role=role))


@app.command
def switchover(
    role: OneRole,
    /,
    *,
    to: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    wait: bool = False,
    config: ConfigPath = None,
) -> None:
    """Have the active replica of a role hand its leadership to a standby, without a failed request.

    Args:
        role: Which one.
        to: Server ID of the standby that is to take over (see `coordd status`). Default: the first to answer.
        wait: Return only once the new active replica serves.
        config: milvus.yaml or the directory it is in. Default: $MILVUSCONF, else ./configs.
    """
    settings = load_config(config).settings
    _run_async(switchover_command.switchover(settings, role, to=to or 0, wait=wait))


@app.command
def version() -> None:
    """Print the version of coordd and of the Milvus it stands in for."""
    sys.stdout.write(
        f"coordd {coordd_version()} (stands in for the coordinators of Milvus {MILVUS_VERSION})\n"
    )


def main(arguments: list[str], parent: ParentLink | None = None) -> None:
    """Run the command and end the process. `parent`: the way to the supervising process, if there is one."""
    sys.exit(_main(arguments, parent))


def _main(arguments: list[str], parent: ParentLink | None) -> int:
    try:
        command, bound, unparsed = app.parse_args(arguments)
        if "parent" in unparsed:
            bound.arguments["parent"] = parent
        result = command(*bound.args, **bound.kwargs)
    except CycloptsError:
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`coordd config show | head`): nothing is left to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except CoorddError as error:
        sys.stderr.write(f"coordd: {error}\n")
        return 1
    return result if isinstance(result, int) else 0


def _run_async(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(coroutine)
        except ExceptionGroup as group:
            raise _first_expected(group) from group


def _first_expected(group: ExceptionGroup[Exception]) -> Exception:
    """The error to show of a task group that failed: one made for people, if there is one."""
    expected = group.subgroup(CoorddError)
    error: BaseException = expected if expected is not None else group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else group
