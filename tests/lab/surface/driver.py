"""The whole surface of pymilvus 2.3.5, section by section, over one proxy with authorization enabled.

Runs in the pymilvus environment, like `tests/lab/pymilvus_driver.py`, and is talked to in the same way. Each
section of `SECTIONS`, in this order, answers with its lines (see `steps`). They build on one another.
"""

import json
import sys
import traceback
from collections.abc import Callable

import data
import definitions
import handover
import imports
import permissions
import simple
from grpc import RpcError
from pymilvus import connections
from pymilvus.exceptions import MilvusException
from steps import TIMEOUT_S, USING, Steps, refusal

SECTIONS: dict[str, Callable[[Steps], None]] = {
    "databases": definitions.databases,
    "shapes": definitions.shapes,
    "partitions": definitions.partitions,
    "aliases": definitions.aliases,
    "names": definitions.names,
    "properties": definitions.properties,
    "accounts": permissions.accounts,
    "imports": imports.imports,
    "every_type": data.every_type,
    "levels": data.levels,
    "changes": data.changes,
    "dynamic": data.dynamic,
    "keyed": data.keyed,
    "parts": data.parts,
    "objects": simple.objects,
    "defaults": data.defaults,
    "elsewhere": data.elsewhere,
    "imported": imports.imported,
    "simple": simple.simple,
    "rights": permissions.rights,
    "left_behind": handover.left_behind,
    "resource_groups": permissions.resource_groups,
    "goes_on": handover.goes_on,
    "comes_back": handover.comes_back,
    "drops": data.drops,
}


def connect(host: str, port: int) -> None:
    """As root, with the password that Milvus begins with."""
    connections.connect(USING, host=host, port=str(port), user="root", password="Milvus", timeout=TIMEOUT_S)


def run(section: Callable[[Steps], None], steps: Steps) -> None:
    """A section that cannot go on says so in its last line."""
    try:
        section(steps)
    except (MilvusException, RpcError) as error:
        traceback.print_exc(file=sys.stderr)
        line = {
            "what": "the rest of the section",
            "got": refusal(error),
            "right": False,
            "wanted": "no refusal",
        }
        steps.lines.append(line)


def main() -> None:
    """Answer requests until the input ends."""
    for text in sys.stdin:
        request = json.loads(text)
        if request["op"] == "connect":
            connect(**request["args"])
            reply = {"ok": True, "result": list(SECTIONS)}
        else:
            steps = Steps()
            run(SECTIONS[request["op"]], steps)
            reply = {"ok": True, "result": steps.lines}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
