"""The command line: run, dev, status, config, version."""

import os


def main(arguments: list[str] | None = None) -> None:
    """Entry point; ends the process."""
    # gRPC reads it when it is imported. Its fork handlers only serve processes that go on in a forked child;
    # ours exec at once, and the handlers' complaints would spoil the table of `coordd dev`.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from coordd.cli import app  # noqa: PLC0415 - not before the line above

    app.main(arguments)


__all__ = ["main"]
