"""The command line: run, dev, status, config, version."""

import os
import sys

from coordd.supervisor import is_wanted, supervise


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ends the process.

    `run` goes on in a child of this process, which stays behind as its supervisor: so nothing heavy may have
    been imported before.
    """
    # gRPC reads it when it is imported. Its fork handlers only serve processes that go on in a forked child;
    # ours exec at once, and the handlers' complaints would spoil the table of `coordd dev`.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    given = sys.argv[1:] if arguments is None else arguments
    parent = supervise() if is_wanted(given, os.environ) else None
    from coordd.cli import app  # noqa: PLC0415 - not before the lines above

    app.main(given, parent)


__all__ = ["main"]
