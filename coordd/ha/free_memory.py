"""Memory that is free goes back to the kernel.

glibc keeps for later what was freed below the end of its heap, and once large blocks have come and gone, up
to 64 MB at the end, too. After a load that is what the pages of the range read took, 25 MB, which a standby
never needs again; after a term, what requests and their answers took. Python's own allocator gives back what
it can by itself.

Source: malloc_trim(3), mallopt(3). Other C libraries have no such call and need none.
"""

import ctypes


def give_back() -> None:
    """Give free memory back; some 7 ms after a large load, in which other threads cannot allocate."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
