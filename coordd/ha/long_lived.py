"""What a process keeps for as long as it lives is not looked through again and again for garbage.

A full collection of Python's garbage collector stops the process while it looks at every object there is:
60 ms for the modules and 1,000 collections, half a second for 100,000. It comes when enough new objects have
been made, and a takeover makes many, so the first clients of a new active waited for it. Modules and metadata
stay anyway; once they are there, they are exempted. What the load has needed besides is given back.
"""

import gc

from coordd.ha.follower import Follower
from coordd.ha.free_memory import give_back


def settle_once_loaded(follower: Follower) -> None:
    """When `follower` has loaded for the first time: exempt from garbage collection all there is, and give
    back what is free.
    """
    loaded = False

    def progress() -> None:
        nonlocal loaded
        if not loaded:
            loaded = True
            gc.freeze()
            give_back()

    follower.on_progress(progress)
