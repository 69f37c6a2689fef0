"""``python -m bench``: measure coordd side by side with Milvus 2.3.5, print one Markdown table.

Real processes on 127.0.0.1, all ended at the end. Takes about three minutes on two cores with the defaults;
``--ttl 30`` or larger counts take longer. The lab with Milvus' binaries is installed on first use. Let the
machine do nothing else meanwhile; the report says how much else it did.

Programs of their own, because they take longer: bench.ddl (collections made and dropped in whole clusters),
bench.failover (outages by kind of event, with a plot), bench.activation (starts and takeovers with 100,000
collections), bench.etcd_return, bench.false_failovers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import footprint, program, report, rpc, takeover
from bench.side import Side, both_sides, metadata_size

SECTIONS = ("rpc", "memory", "takeover", "start_up")


def _parser() -> argparse.ArgumentParser:
    parser = program.new_parser("bench", __doc__)
    add = parser.add_argument
    add("--only", choices=SECTIONS, action="append", help="measure this only (repeatable)")
    add("--ttl", type=int, default=5, help="session TTL in seconds (default 5)")
    add("--takeovers", type=int, default=3, help="per signal and side (default 3)")
    add("--starts", type=int, default=3, help="per side (default 3)")
    add("--rounds", type=int, default=3, help="per method and side (default 3)")
    add("--rate-s", type=float, default=1.0, help="seconds of a rate (default 1)")
    add("--latency-s", type=float, default=0.5, help="seconds of a latency (default 0.5)")
    add("--streams", type=int, default=64, help="calls under way for a rate (default 64)")
    add("--collections", type=int, default=30, help="besides one of everything (default 30)")
    return parser


def _measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    sys.stderr.write("bench: starting Milvus and making the metadata\n")
    with both_sides(work, options.ttl, options.collections) as sides:
        return _sections(sides, options)


def _sections(sides: tuple[Side, Side], options: argparse.Namespace) -> dict[str, Any]:
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
    return program.run(_parser(), _measure, report.markdown, argv)


if __name__ == "__main__":
    sys.exit(main())
