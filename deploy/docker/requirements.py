"""Prints the requirements that pyproject.toml names, one a line: `requirements.py build` or `runtime`.

The image has the clients of both message queues: which one a cluster uses is a setting.

The image build installs them before the sources are copied, so that a change to the sources does not
download everything again.
"""

import sys
import tomllib
from pathlib import Path


def main() -> int:
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    match sys.argv[1:]:
        case ["build"]:
            requirements = project["build-system"]["requires"]
        case ["runtime"]:
            extras = project["project"]["optional-dependencies"]
            requirements = [*project["project"]["dependencies"], *extras["kafka"], *extras["pulsar"]]
        case _:
            sys.stderr.write("usage: requirements.py build|runtime\n")
            return 2
    sys.stdout.writelines(f"{requirement}\n" for requirement in requirements)
    return 0


if __name__ == "__main__":
    sys.exit(main())
