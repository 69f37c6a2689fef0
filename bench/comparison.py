"""Figures of both products side by side: Milvus', coordd's, their ratio, and which is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.table import number, table

# Closer than this is called the same.
SAME = 0.05
HEAD = ("what [unit]", "Milvus 2.3.5", "coordd", "coordd / Milvus", "coordd is")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. ``more`` tells whether more is better."""

    what: str
    unit: str
    milvus: float
    coordd: float
    more: bool = False

    @property
    def ratio(self) -> float | None:
        """coordd's figure by Milvus'; None by zero."""
        return self.coordd / self.milvus if self.milvus else None

    @property
    def verdict(self) -> str:
        """coordd compared with Milvus."""
        low, high = sorted((self.milvus, self.coordd))
        if high == low or high <= low * (1 + SAME):
            return "same"
        return "better" if (self.coordd > self.milvus) is self.more else "worse"

    def cells(self) -> tuple[str, str, str, str, str]:
        """The line as text."""
        ratio = "–" if self.ratio is None else f"{self.ratio:.3g}"
        return f"{self.what} [{self.unit}]", number(self.milvus), number(self.coordd), ratio, self.verdict


def compared(lines: Sequence[Line]) -> list[str]:
    """The table in Markdown, and in how much of it coordd is worse."""
    worse = [line.what for line in lines if line.verdict == "worse"]
    return [
        *table(HEAD, [line.cells() for line in lines], left=(0, 4)),
        "",
        f"coordd is worse in {len(worse)} of {len(lines)} lines{': ' if worse else ''}{'; '.join(worse)}.",
    ]
