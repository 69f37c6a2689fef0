"""deploy/systemd/coordd@.service as data, and the process it would start."""

import re
import shlex
from collections import defaultdict
from pathlib import Path

from tests.packaging.files import COORDD, UNIT

INSTALLED = "/opt/coordd/bin/coordd"


def directives(section: str) -> dict[str, list[str]]:
    """Directive -> its values, in order, of one section."""
    found: dict[str, list[str]] = defaultdict(list)
    current = ""
    for line in UNIT.read_text("utf-8").splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            current = match[1]
        elif current == section and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name].append(value)
    return dict(found)


def instance(folder: Path, name: str, command: Path = COORDD) -> Path:
    """The unit of one instance, written to `folder`, with `command` in place of the installed program."""
    path = folder / f"coordd@{name}.service"
    path.write_text(UNIT.read_text("utf-8").replace(INSTALLED, str(command)))
    return path


def environment(name: str, settings: str = "") -> dict[str, str]:
    """What the instance's process gets: `Environment=`, then the lines of its environment file."""
    lines = [line.replace("%i", name) for line in directives("Service")["Environment"]]
    lines += [line for line in settings.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def command_line(env: dict[str, str]) -> list[str]:
    """`ExecStart=` with its variables put in."""
    words = shlex.split(directives("Service")["ExecStart"][0])
    return [re.sub(r"\$\{(\w+)\}", lambda match: env[match[1]], word) for word in words]
