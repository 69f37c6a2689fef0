"""etcd server versions that lose, corrupt or hide data. Pure.

Only bugs that can hurt what coordd keeps in etcd are listed: acknowledged writes that vanish, members that
differ, reads that are stale, watch events that are lost, leases that end early or seem to live on.

Source of truth: etcd CHANGELOG/CHANGELOG-3.4.md, -3.5.md, -3.6.md (as of August 2026) and the issues named.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

_Version: TypeAlias = tuple[int, int, int]

RECOMMENDED = "3.5.28 or newer, or 3.6.9 or newer"


@dataclass(frozen=True, slots=True)
class _Bug:
    """`windows`: first bad and first good version of each release line concerned."""

    windows: tuple[tuple[_Version, _Version], ...]
    what: str
    source: str


_BUGS = (
    _Bug(
        (((3, 5, 0), (3, 5, 3)),),
        "after a crash under load a member can come back with data that differs from the others'",
        "etcd issue 13766",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 21)), ((3, 5, 0), (3, 5, 5))),
        "a cluster of one member can lose writes it has acknowledged when it crashes",
        "etcd issue 14370",
    ),
    _Bug(
        (((3, 5, 0), (3, 5, 6)),),
        "a crash during defragmentation can leave members with different revisions",
        "etcd pull request 14733",
    ),
    _Bug(
        (((3, 4, 20), (3, 4, 22)), ((3, 5, 5), (3, 5, 6))),
        "with authentication on, a member that is added later can miss writes",
        "etcd issue 14571",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 8)),),
        "members' data can differ after a restart when authentication is on",
        "etcd pull request 11652",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 25)), ((3, 5, 0), (3, 5, 8))),
        "a watch can go back in time or repeat events when its member falls behind",
        "etcd pull requests 15515 and 15274",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 31)), ((3, 5, 0), (3, 5, 13))),
        "a watch can lose events around a compaction, and a former leader can revoke leases that live",
        "etcd pull requests 17612 and 17425",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 32)), ((3, 5, 0), (3, 5, 14))),
        "the revision can go back after a crash during compaction",
        "etcd pull request 17865",
    ),
    _Bug(
        (((3, 5, 0), (3, 5, 17)),),
        "a transaction that fails while it is applied can be written in part",
        "etcd issue 18679",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 36)), ((3, 5, 0), (3, 5, 18))),
        "a watch that starts at a compacted revision can miss a delete",
        "etcd pull requests 18474 and 19249",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 38)), ((3, 5, 0), (3, 5, 23)), ((3, 6, 0), (3, 6, 5))),
        "a keepalive can be answered for a lease that is already revoked, and a defragmentation while a "
        "snapshot is applied can corrupt data",
        "etcd pull requests 20616 and 20653",
    ),
    _Bug(
        (((3, 4, 0), (3, 4, 42)), ((3, 5, 0), (3, 5, 28)), ((3, 6, 0), (3, 6, 9))),
        "linearizable reads can be stale after a member was paused or the leader changed",
        "etcd issue 20418",
    ),
)  # fmt: skip


def version_warnings(version: str) -> list[str]:
    """One sentence per known data bug of this etcd server version, worst first; empty if none is known.

    `version` as the server reports it, e.g. "3.5.1" or "3.6.0-rc.2"; what is not understood gives one
    sentence saying so.
    """
    parsed = _parse(version)
    if parsed is None:
        return [f"etcd version {version!r} is not understood; use {RECOMMENDED}"]
    if parsed < (3, 4, 0):
        return [f"etcd {version} is older than all that are still maintained; use {RECOMMENDED}"]
    found = [
        f"etcd {version}: {bug.what} ({bug.source}, fixed in {'.'.join(map(str, good))}); use {RECOMMENDED}"
        for bug in _BUGS
        for bad, good in bug.windows
        if bad <= parsed < good
    ]
    if parsed < (3, 5, 0):
        found.append(f"etcd {version}: the 3.4 line gets no more fixes; use {RECOMMENDED}")
    return found


def version_headline(version: str) -> list[str]:
    """`version_warnings` in at most one sentence, for those who need not know each bug."""
    found = version_warnings(version)
    if len(found) <= 1:
        return found
    return [f"etcd {version} has {len(found)} known data bugs; use {RECOMMENDED}"]


def _parse(version: str) -> _Version | None:
    """Pre-releases count as their release's first version."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))
