"""Versions this build answers to."""

from importlib.metadata import version

MILVUS_VERSION = "2.3.5"
"""The Milvus release whose coordinators coordd stands in for; goes into session records, where other
processes parse it strictly as a semantic version."""


def coordd_version() -> str:
    """The installed version of coordd itself."""
    return version("coordd")
