"""Which memory is collapsed into huge pages."""

import pytest

from coordd.ha.huge_pages import HUGE_PAGE, huge_page_addresses, is_full

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


# As in /proc/<pid>/pagemap: 8 bytes, the flags in the highest bits.
MISSING = bytes(8)
PRESENT = (1 << 63 | 1 << 55).to_bytes(8, "little")
SWAPPED = (1 << 62 | 5).to_bytes(8, "little")
NEVER_WRITTEN = (1 << 55).to_bytes(8, "little")


@pytest.mark.parametrize("there", [PRESENT, SWAPPED], ids=["present", "swapped"])
def test_few_holes_are_filled_and_many_are_not(there: bytes) -> None:
    assert is_full(there * 512)
    assert is_full(MISSING * 64 + there * 448)
    assert not is_full(there * 447 + MISSING * 65)


def test_a_page_never_written_is_a_hole() -> None:
    assert not is_full(NEVER_WRITTEN * 512)


def test_without_the_kernels_word_nothing_counts_as_missing() -> None:
    assert is_full(b"")
