"""Markdown tables."""

from bench.table import number, table


def test_columns_are_aligned() -> None:
    assert table(("what", "n"), [("a", "1"), ("longer", "1,000")]) == [
        "| what   |     n |",
        "|--------|------:|",
        "| a      |     1 |",
        "| longer | 1,000 |",
    ]


def test_numbers_have_three_digits_or_more() -> None:
    assert [number(value) for value in (0.01234, 9.876, 99.96, 1234.5)] == ["0.0123", "9.88", "100", "1,234"]
