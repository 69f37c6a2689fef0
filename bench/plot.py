"""The outages of bench.failover as a picture: one line per kind of event, coordd against Milvus, logarithmic.

Needs matplotlib (the extra ``bench``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.failover_report import NAMES, ordered

_COLOURS = {"coordd": "#1b6ca8", "milvus": "#c8553d"}
_GREY = "#5a5a5a"
_ALPHA = 0.85
_HEIGHT = 0.3
# The clients' period: no outage can be shorter.
_LOW_MS = 5
_TICKS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000)
_MARGIN = 1.6
_LABELS = {
    "switchover": "planned switchover",
    "SIGTERM": "SIGTERM",
    "kill -9": "kill -9",
    "SIGSTOP": "SIGSTOP (hang)",
    "partition from etcd": "cut off from etcd",
    "dropped host": "host gone",
}


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG: median as a bar, p99 as a tick, maximum as a dot."""
    every = ordered(results)
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10})
    groups = list(dict.fromkeys(one["event"] for one in every))
    figure = Figure(figsize=(8.4, 0.8 + 0.72 * len(groups)), dpi=160, facecolor="white")
    axes = figure.subplots()
    for index, group in enumerate(groups):
        members = [one for one in every if one["event"] == group]
        for place, one in enumerate(members):
            _bar(axes, index + (place - (len(members) - 1) / 2) * (_HEIGHT + 0.06), one)
    axes.set_yticks(range(len(groups)), [_LABELS[group] for group in groups])
    axes.invert_yaxis()
    _scale(axes, max(one["outage_ms"]["max"] for one in every))
    _legend(axes, every)
    axes.set_title(
        "Time without an answer for a client that follows the ACTIVE key (bar: median)",
        loc="left",
        fontsize=11,
        pad=26,
    )
    figure.tight_layout()
    figure.savefig(path)


def _bar(axes: Axes, y: float, one: dict[str, Any]) -> None:
    outage, colour = one["outage_ms"], _COLOURS[one["product"]]
    axes.barh(y, outage["median"] - _LOW_MS, _HEIGHT, left=_LOW_MS, color=colour, alpha=_ALPHA, linewidth=0)
    axes.plot([outage["median"], outage["max"]], [y, y], color=colour, linewidth=1.2, solid_capstyle="butt")
    axes.plot([outage["p99"]] * 2, [y - _HEIGHT / 3, y + _HEIGHT / 3], color=colour, linewidth=1.8)
    axes.plot([outage["max"]], [y], "o", color=colour, markersize=4)
    text = _time(outage["median"])
    axes.annotate(
        text, (outage["max"], y), (7, 0), textcoords="offset points", va="center", fontsize=9, color=_GREY
    )


def _scale(axes: Axes, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(_LOW_MS, high * _MARGIN)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS_MS if tick <= high * _MARGIN]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: _time(value)))
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#bbbbbb")


def _legend(axes: Axes, every: list[dict[str, Any]]) -> None:
    seen = sorted({(one["product"], one["ttl_s"]) for one in every})
    handles: list[Artist] = [
        Patch(color=_COLOURS[product], alpha=_ALPHA, label=f"{NAMES[product]}, session TTL {ttl_s} s")
        for product, ttl_s in seen
    ]
    mark = {"color": _GREY, "linestyle": "none"}
    handles.append(Line2D([], [], marker="|", markersize=8, markeredgewidth=1.8, label="p99", **mark))
    handles.append(Line2D([], [], marker="o", markersize=4, label="max", **mark))
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        borderpad=0,
    )


def _time(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.3g} s"
