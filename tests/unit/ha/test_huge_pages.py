"""Which memory is collapsed into huge pages."""

import pytest

from coordd.ha.huge_pages import HUGE_PAGE, huge_page_addresses

TAIL = "rw-p 00000000 00:00 0"


def addresses(*lines: str) -> list[int]:
    return list(huge_page_addresses(lines))


def test_whole_aligned_pages_only() -> None:
    assert addresses(f"7f0000000000-7f0000600000 {TAIL}") == [
        0x7F0000000000,
        0x7F0000200000,
        0x7F0000400000,
    ]
    assert addresses(f"7f0000001000-7f0000600000 {TAIL}") == [0x7F0000200000, 0x7F0000400000]
    assert addresses(f"7f0000001000-7f00003ff000 {TAIL}") == []


def test_the_heap_counts() -> None:
    assert addresses(f"200000-400000 {TAIL}                          [heap]") == [HUGE_PAGE]


@pytest.mark.parametrize(
    "line",
    [
        "7f0000000000-7f0000200000 r--p 00000000 00:00 0",
        "7f0000000000-7f0000200000 rw-s 00000000 00:00 0",
        "7f0000000000-7f0000200000 rw-p 00000000 08:01 1234    /usr/lib/libc.so.6",
        "7f0000000000-7f0000200000 rw-p 00000000 00:00 0       [stack]",
    ],
    ids=["read-only", "shared", "file", "stack"],
)
def test_no_other_memory(line: str) -> None:
    assert addresses(line) == []
