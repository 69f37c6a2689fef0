"""A small parent process that watches over a replica: a hang becomes a crash, which others notice at once.

`supervise` forks before anything heavy is imported. The child becomes the replica; its event loop beats over
a pipe (`link`). The parent (`parent`, decisions in `machine`) kills a child whose beats stop and starts
another, forwards signals, ends as the child ends, and speaks to systemd. The parent's death ends the child.

Nothing here imports more than the interpreter has loaded anyway, so that the parent costs a few megabytes: no
asyncio, no dataclasses, no logging (the layer contracts in pyproject.toml check it).
"""

from coordd.supervisor.link import ParentLink
from coordd.supervisor.parent import supervise
from coordd.supervisor.wanted import is_wanted

__all__ = ["ParentLink", "is_wanted", "supervise"]
