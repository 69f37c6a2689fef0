"""Whether a command line is to be supervised, told without the parser, which is too heavy for the parent."""

from collections.abc import Mapping, Sequence

SWITCH_VARIABLE = "COORDD_WATCHDOG_ENABLED"
"""The setting `coordd.watchdog.enabled` as an environment variable: the one source of it that is known before
the fork. Off in another source, the parent stays, but only forwards signals and the exit code."""

_OFF = ("0", "f", "false")
_UNWATCHED = ("--no-watchdog", "--help", "-h")


def is_wanted(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """True for `run ROLE` without `--no-watchdog`, unless the environment switches the watchdog off."""
    if not arguments or arguments[0] != "run" or any(option in arguments for option in _UNWATCHED):
        return False
    return environment.get(SWITCH_VARIABLE, "").strip().lower() not in _OFF
