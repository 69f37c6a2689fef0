"""The results as one Markdown table, with what they were measured on and an honest list of what is slower."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench import program
from bench.comparison import Line, compared
from bench.rpc import CONNECTIONS, choose_cpus
from bench.takeover import DEADLINE_MS, PERIOD_MS

# Above this share of its CPU the load generator is called the bottleneck.
CLIENT_LIMIT = 0.9
# Other processes' use of the machine, in CPUs, above which the figures are called noisy.
OTHERS_LIMIT = 0.15


def lines(results: dict[str, Any]) -> list[Line]:
    """All lines of the table, from those sections that were measured."""
    found: list[Line] = []
    if "rpc" in results:
        found += _rpc(results["rpc"]["methods"])
    if "takeover" in results:
        found += _takeover(results["takeover"], results["options"]["ttl"])
    if "start_up" in results:
        sides = results["start_up"]
        for figure, name in (("median_ms", "median"), ("max_ms", "max")):
            found.append(_line(f"process start to Healthy, {name}", "ms", sides, figure))
    if "memory" in results:
        found += _memory(results["memory"])
    return found


def _line(what: str, unit: str, sides: dict[str, Any], figure: str, *, more: bool = False) -> Line:
    return Line(what, unit, sides["milvus"][figure], sides["coordd"][figure], more)


def _rpc(methods: dict[str, Any]) -> Iterator[Line]:
    for method, sides in methods.items():
        yield _line(f"{method}, rate", "calls/s", sides, "rate_per_s", more=True)
    for method, sides in methods.items():
        yield _line(f"{method}, latency p50", "µs", sides, "p50_us")
        yield _line(f"{method}, latency p99", "µs", sides, "p99_us")
    for method, sides in methods.items():
        yield _line(f"{method}, server CPU per 1000 calls", "ms", sides, "server_cpu_ms_per_1000")


def _takeover(signals: dict[str, Any], ttl_s: int) -> Iterator[Line]:
    for name, sides in signals.items():
        what = f"takeover after {name}, TTL {ttl_s} s"
        yield _line(f"{what}: outage, median", "ms", sides, "outage_ms_median")
        yield _line(f"{what}: outage, max", "ms", sides, "outage_ms_max")
        yield _line(f"{what}: failed requests, median", "count", sides, "failed_median")


def _memory(sides: dict[str, Any]) -> Iterator[Line]:
    for place in ("active", "standby"):
        for kind, name in (("rss", "RSS"), ("anonymous", "RSS without mapped files")):
            figures = [sides[side][place][kind] for side in ("milvus", "coordd")]
            yield Line(f"memory of the {place}, {name}", "MB", *figures)


def markdown(results: dict[str, Any]) -> str:
    """The whole report."""
    parts = [
        "## coordd and Milvus 2.3.5, measured side by side",
        "",
        *program.conditions(results),
        *_conditions(results),
        "",
        *compared(lines(results)),
        "",
    ]
    return "\n".join([*parts, *_remarks(results)])


def _conditions(results: dict[str, Any]) -> Iterator[str]:
    options = results["options"]
    size = results["metadata"]
    yield (
        f"- one etcd 3.5.1 per side (one member, no fsync) with the same metadata, made by Milvus: "
        f"{size['collections']} collections in the default database, {size['keys']} keys; loopback, no TLS; "
        "log level info; a Kafka per side (librdkafka's mock); no process of another role runs meanwhile"
    )
    if "rpc" in results:
        yield (
            f"- calls: to the active of a pair; {_placement()}; "
            f"median of {options['rounds']} rounds in turn; rate: {options['rate_s']:g} s with "
            f"{options['streams']} calls under way on {CONNECTIONS} connections; latency: "
            f"{options['latency_s']:g} s, one call at a time; CPU time of the server while at its rate"
        )
    if "takeover" in results:
        yield (
            f"- takeover: n = {options['takeovers']} per signal and side, session TTL {options['ttl']} s; a "
            f"client that follows the ACTIVE key sends AllocTimestamp each {PERIOD_MS} ms (deadline "
            f"{DEADLINE_MS} ms, never sent again); outage = longest time between two good answers; a request "
            "without a good answer failed"
        )
    if "start_up" in results:
        yield (
            f"- start: n = {options['starts']}, no other process of the role, ACTIVE key free, the one "
            "before ended by SIGTERM (Milvus' by SIGKILL: it goes on after SIGTERM)"
        )
    if "memory" in results:
        yield "- memory: a pair after the calls above (megabytes of 10^6 bytes)"


def _placement() -> str:
    cpus = choose_cpus()
    if cpus.server == cpus.client:
        return "server and client share the only CPU"
    return "server kept on one CPU, client on another"


def _remarks(results: dict[str, Any]) -> Iterator[str]:
    if "rpc" in results:
        yield from _rpc_remarks(results["rpc"])
    if "takeover" in results:
        yield from _takeover_remarks(results["takeover"])


def _rpc_remarks(rpc: dict[str, Any]) -> Iterator[str]:
    ceiling = rpc["ceiling"]
    most = ceiling["rate_per_s"] / max(ceiling["client_busy"], 0.01)
    yield (
        f"Load generator: {ceiling['rate_per_s']:,.0f} calls/s and {ceiling['p50_us']:.0f} µs (p50) against "
        f"a server that does nothing, at {ceiling['client_busy']:.0%} of its CPU: about {most:,.0f} calls/s "
        "at all of it."
    )
    summaries = [
        (method, side, summary) for method, sides in rpc["methods"].items() for side, summary in sides.items()
    ]
    bound = [f"{m} of {s}" for m, s, summary in summaries if summary["client_busy"] > CLIENT_LIMIT]
    if bound:
        yield f"The load generator was the bottleneck in: {', '.join(bound)}; those rates are too low."
    failed = {f"{m} of {s}": summary["failed"] for m, s, summary in summaries if summary["failed"]}
    yield f"Failed calls: {failed or 'none'}."
    others = max(summary["others_busy"] for _, _, summary in summaries)
    noise = " That is much: rates are too low, latencies too high; CPU time per call suffers least."
    yield (
        f"Meanwhile all other processes used up to {others:.0%} of one CPU (median per line)."
        f"{noise if others > OTHERS_LIMIT else ''}"
    )


def _takeover_remarks(signals: dict[str, Any]) -> Iterator[str]:
    back = sum(summary["backwards"] for sides in signals.values() for summary in sides.values())
    late = max(
        run["client_late_ms"]
        for sides in signals.values()
        for summary in sides.values()
        for run in summary["runs"]
    )
    yield f"Timestamps that went back across a takeover: {back}. The client was at most {late:.1f} ms late."
    yield "After SIGKILL Milvus waits for the end of the lease: TTL less the age of its last renewal."
    for side in ("milvus", "coordd"):
        summary = signals["SIGTERM"][side]
        yield (
            f"Processes of {side} that had ended a second after the takeover that SIGTERM caused: "
            f"{summary['exited']} of {len(summary['runs'])}."
        )
