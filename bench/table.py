"""Markdown tables with aligned columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """The lines of a table; the columns ``left`` are aligned to the left, the others to the right."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    rules = [
        "-" * (width + 2) if index in left else "-" * (width + 1) + ":" for index, width in enumerate(widths)
    ]
    return [_row(head, widths, left), f"|{'|'.join(rules)}|", *(_row(row, widths, left) for row in rows)]


def _row(cells: Sequence[str], widths: Sequence[int], left: Collection[int]) -> str:
    texts = [
        cell.ljust(width) if index in left else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(texts)} |"
