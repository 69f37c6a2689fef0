"""How much memory the tests' own process has, and memory that is free and yet not given back."""

from pathlib import Path

_BLOCKS, _BLOCK_BYTES = 6_000, 10_000
LEFT_MB = 45
"""Of 60 MB in blocks at least so much is there to be given back; others may use a part of it meanwhile."""


def anonymous_mb() -> float:
    """Without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:"))


def leave_free_memory() -> bytearray:
    """Make many blocks and free them below a last one, which stays: hold on to it, and so does the C library
    to the rest.
    """
    blocks = [bytearray(_BLOCK_BYTES) for _ in range(_BLOCKS)]
    last = bytearray(_BLOCK_BYTES)
    del blocks
    return last
