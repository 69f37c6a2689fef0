"""``python -m bench``: measure coordd side by side with Milvus 2.3.5, print one Markdown table.

Real processes on 127.0.0.1, all ended at the end. Takes about three minutes on two cores with the defaults;
``--ttl 30`` or larger counts take longer. The lab with Milvus' binaries is installed on first use. Let the
machine do nothing else meanwhile; the report says how much else it did.

Programs of their own, because they take longer: bench.failover (outages by kind of event, with a plot),
bench.activation (takeovers with 100,000 collections), bench.etcd_return, bench.false_failovers.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import footprint, proc, report, rpc, takeover
from bench.children import ChildError
from bench.side import BenchError, Side, both_sides, metadata_size
from tests.lab.install import LabError

SECTIONS = ("rpc", "memory", "takeover", "start_up")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results to this file")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this only (repeatable)")
    parser.add_argument("--ttl", type=int, default=5, help="session TTL in seconds (default 5)")
    parser.add_argument("--takeovers", type=int, default=3, help="per signal and side (default 3)")
    parser.add_argument("--starts", type=int, default=3, help="per side (default 3)")
    parser.add_argument("--rounds", type=int, default=3, help="per method and side (default 3)")
    parser.add_argument("--rate-s", type=float, default=1.0, help="seconds of a rate (default 1)")
    parser.add_argument("--latency-s", type=float, default=0.5, help="seconds of a latency (default 0.5)")
    parser.add_argument("--streams", type=int, default=64, help="calls under way for a rate (default 64)")
    parser.add_argument("--collections", type=int, default=30, help="besides one of everything (default 30)")
    return parser.parse_args(argv)


def _measure(sides: tuple[Side, Side], options: argparse.Namespace) -> dict[str, Any]:
    wanted = options.only or SECTIONS
    found: dict[str, Any] = {"metadata": metadata_size(sides[0])}
    for section in SECTIONS:
        if section not in wanted:
            continue
        sys.stderr.write(f"bench: {section}\n")
        match section:
            case "rpc":
                plan = rpc.Plan(options.rounds, options.rate_s, options.latency_s, options.streams)
                found["rpc"] = rpc.measure(sides, plan)
            case "memory":
                found["memory"] = footprint.memory(sides)
            case "takeover":
                found["takeover"] = takeover.measure(sides, options.takeovers, options.ttl)
            case _:
                found["start_up"] = footprint.start_up(sides, options.starts)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and report."""
    options = _arguments(argv)
    began = time.monotonic()
    results: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "bench", *(sys.argv[1:] if argv is None else argv)]),
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": proc.machine(),
        "options": {name: value for name, value in vars(options).items() if name != "json"},
    }
    # Ends like Ctrl-C does, with all processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stderr.write("bench: starting Milvus and making the metadata\n")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as work,
            both_sides(Path(work), options.ttl, options.collections) as sides,
        ):
            results |= _measure(sides, options)
    except (BenchError, ChildError, LabError) as error:
        sys.stderr.write("\n".join([f"bench: {error}", *getattr(error, "__notes__", []), ""]))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return 130
    results["seconds"] = time.monotonic() - began
    print(report.markdown(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
