"""What one proxy has yet to be told. Pure.

Three kinds of notices, which do not depend on each other:

* collections to forget: in any order, each of them once;
* passwords to forget: of each user only the newest notice counts;
* policy operations: in their order. They can always be replaced by one that has the proxy read all policies
  anew, which is done when many have piled up, and when the proxy refuses one.

Source of truth: Milvus 2.3.5 internal/proxy/impl.go (what a proxy does with each), pkg/util/typeutil/cache.go
(numbers of the policy operations).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from coordd.pb.proxy_pb2 import (
    InvalidateCollMetaCacheRequest,
    InvalidateCredCacheRequest,
    RefreshPolicyInfoCacheRequest,
)

Notice: TypeAlias = (
    InvalidateCollMetaCacheRequest | InvalidateCredCacheRequest | RefreshPolicyInfoCacheRequest
)

MAX_POLICY_NOTICES = 64
"""More than this many policy operations: reading all policies anew is less work."""
MAX_COLLECTIONS = 10_000
"""More collections than this to forget: the proxy is given up, only a new process gets timestamps again."""


class PolicyChange(IntEnum):
    """`RefreshPolicyInfoCacheRequest.opType`."""

    ADD_USER_TO_ROLE = 1
    REMOVE_USER_FROM_ROLE = 2
    GRANT = 3
    REVOKE = 4
    DELETE_USER = 5
    DROP_ROLE = 6
    REFRESH = 7
    """Everything anew, by ListPolicy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice that waits. `number` tells it from an equal one that was added later."""

    number: int
    notice: Notice


class Outbox:
    """The notices for one proxy; see the module's docstring."""

    def __init__(self) -> None:
        self._number = 0
        self._collections: dict[tuple[int, str, str, int], Entry] = {}
        self._credentials: dict[str, Entry] = {}
        self._policies: list[Entry] = []
        self._withheld: set[str] = set()
        self.given_up = False
        """Which collections are to be forgotten is not known any more."""

    @property
    def owes_collections(self) -> bool:
        """Whether the proxy may know a collection as it is not any more."""
        return self.given_up or bool(self._collections)

    @property
    def bars(self) -> bool:
        """Whether the proxy must not work before it has been told: it may know a collection as it is not any
        more, or take a password that was withheld.
        """
        return self.owes_collections or bool(self._withheld)

    @property
    def owes_permissions(self) -> bool:
        """Whether the proxy may know a password or a policy as it is not any more."""
        return bool(self._credentials or self._policies)

    def pending(self) -> list[Entry]:
        """All notices, in an order in which they may be sent: collections first, newest passwords next."""
        return [*self._collections.values(), *reversed(self._credentials.values()), *self._policies]

    def add(self, notice: Notice) -> None:
        """Put a notice in; an older one that it supersedes is taken out."""
        self._number += 1
        entry = Entry(self._number, notice)
        match notice:
            case InvalidateCollMetaCacheRequest():
                self._add_collection(entry, notice)
            case RefreshPolicyInfoCacheRequest():
                if notice.opType == PolicyChange.REFRESH or len(self._policies) >= MAX_POLICY_NOTICES:
                    self._refresh_policies()
                else:
                    self._policies.append(entry)
            case _:
                self._credentials.pop(notice.username, None)  # its place is that of the newest
                self._credentials[notice.username] = entry

    def withhold(self, username: str) -> bool:
        """The user's password must not be good any more where it is not known that it was changed.

        Whether that is so of this proxy.
        """
        if username in self._credentials:
            self._withheld.add(username)
        return username in self._credentials

    def delivered(self, entry: Entry) -> None:
        """The proxy has taken the notice in."""
        match entry.notice:
            case InvalidateCollMetaCacheRequest():
                key = _key(entry.notice)
                if self._collections.get(key) == entry:
                    del self._collections[key]
            case RefreshPolicyInfoCacheRequest():
                self._policies = [one for one in self._policies if one.number != entry.number]
            case _:
                user = entry.notice.username
                if self._credentials.get(user) == entry:
                    del self._credentials[user]
                    self._withheld.discard(user)

    def refused(self, entry: Entry) -> None:
        """The proxy did not take the notice in; it stays, but a policy operation becomes a refresh of all."""
        if entry in self._policies and not _is_refresh(entry):
            self._refresh_policies()

    def give_up(self) -> None:
        """It is not known any more which collections the proxy is to forget."""
        self._collections.clear()
        self.given_up = True

    def _add_collection(self, entry: Entry, notice: InvalidateCollMetaCacheRequest) -> None:
        key = _key(notice)
        if key not in self._collections and len(self._collections) >= MAX_COLLECTIONS:
            self.give_up()
        elif not self.given_up:
            self._collections[key] = entry

    def _refresh_policies(self) -> None:
        """One refresh in place of all policy notices; newer than any refresh that is on its way."""
        self._number += 1
        refresh = RefreshPolicyInfoCacheRequest(opType=PolicyChange.REFRESH)
        self._policies = [Entry(self._number, refresh)]


def _is_refresh(entry: Entry) -> bool:
    notice = entry.notice
    return isinstance(notice, RefreshPolicyInfoCacheRequest) and notice.opType == PolicyChange.REFRESH


def _key(notice: InvalidateCollMetaCacheRequest) -> tuple[int, str, str, int]:
    return (notice.base.msg_type, notice.db_name, notice.collection_name, notice.collectionID)
