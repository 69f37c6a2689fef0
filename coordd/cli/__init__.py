"""The command line: run, dev, status, config, version."""

from coordd.cli.app import main

__all__ = ["main"]
