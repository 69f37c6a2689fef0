"""Users, roles, and which user has which role.

None of these keys has snapshots, and a role or mapping exists by its key alone, whatever its value.

Lists come in key order, as Milvus reads them. Not imitated: Milvus adds a role with an empty name to a user
`a` for each role mapping of a user `ab` (it reads by the prefix without the separator).

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go.
"""

from collections.abc import Iterator
from typing import Final

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError, decode_credential
from coordd.meta.keys import is_clean_path, is_segment
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily, malformed

MAX_DEPARTED: Final = 1_000
"""Deleted users whose names are kept."""


class UserTable:
    """Users and their bcrypt hashes.

    A user whose value is quarantined cannot log in and is in no list, yet `is_damaged`: he must not be
    created anew, least of all `root` with the default password.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.user_prefix, self._apply),)
        self.generation = 0
        self._prefix_length = len(layout.user_prefix)
        self._passwords: dict[str, str] = {}
        self._damaged: set[str] = set()
        self._departed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._passwords)

    def __contains__(self, user: str) -> bool:
        return user in self._passwords

    @property
    def count(self) -> int:
        """How many there are, damaged ones included."""
        return len(self._passwords) + len(self._damaged)

    def names(self) -> list[str]:
        """All users, sorted."""
        return sorted(self._passwords)

    def known_names(self) -> list[str]:
        """All users, and those that were deleted while this table followed (the last `MAX_DEPARTED`)."""
        return sorted({*self._passwords, *self._damaged, *self._departed})

    def encrypted_password(self, user: str) -> str | None:
        """The user's bcrypt hash; None if there is no such user."""
        return self._passwords.get(user)

    def is_damaged(self, user: str) -> bool:
        """Whether the user exists, but with a value that is quarantined."""
        return user in self._damaged

    def _apply(self, event: Event) -> None:
        user = event.key[self._prefix_length :]
        if not is_clean_path(user):
            raise malformed(event.key, "a user")
        self.generation += 1
        self._passwords.pop(user, None)
        self._damaged.discard(user)
        self._departed.pop(user, None)
        if event.value is None:
            self._departed[user] = None
            if len(self._departed) > MAX_DEPARTED:
                del self._departed[next(iter(self._departed))]
        else:
            try:
                self._passwords[user] = decode_credential(event.key, event.value)
            except DecodeError:
                self._damaged.add(user)
                raise


class RoleTable:
    """Names of the roles."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.role_prefix, self._apply),)
        self.generation = 0
        self._prefix_length = len(layout.role_prefix)
        self._roles: set[str] = set()

    def __len__(self) -> int:
        return len(self._roles)

    def __contains__(self, role: str) -> bool:
        return role in self._roles

    def names(self) -> list[str]:
        """All roles, sorted."""
        return sorted(self._roles)

    def _apply(self, event: Event) -> None:
        role = event.key[self._prefix_length :]
        if not is_segment(role):
            raise malformed(event.key, "a role")
        self.generation += 1
        if event.value is None:
            self._roles.discard(role)
        else:
            self._roles.add(role)


class UserRoleTable:
    """Which user has which role. Neither needs to exist."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.user_role_prefix, self._apply),)
        self.generation = 0
        self._prefix_length = len(layout.user_role_prefix)
        self._roles: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All (user, role) pairs in key order."""
        for user in sorted(self._roles, key=_as_folder):
            for role in sorted(self._roles[user]):
                yield user, role

    def __contains__(self, pair: tuple[str, str]) -> bool:
        user, role = pair
        return role in self._roles.get(user, ())

    def roles_of(self, user: str) -> list[str]:
        """The user's roles, sorted."""
        return sorted(self._roles.get(user, ()))

    def users_of(self, role: str) -> list[str]:
        """The users who have the role, in key order."""
        return sorted(self._users.get(role, ()), key=_as_folder)

    def _apply(self, event: Event) -> None:
        user, _, role = event.key[self._prefix_length :].partition("/")
        if not is_segment(user) or not is_segment(role):
            raise malformed(event.key, "a user's role")
        self.generation += 1
        if event.value is None:
            _discard(self._roles, user, role)
            _discard(self._users, role, user)
        else:
            self._roles.setdefault(user, set()).add(role)
            self._users.setdefault(role, set()).add(user)


def _as_folder(name: str) -> str:
    """Sorts names as etcd sorts keys in which a `/` follows the name."""
    return f"{name}/"


def _discard(sets: dict[str, set[str]], name: str, member: str) -> None:
    members = sets.get(name)
    if members is not None:
        members.discard(member)
        if not members:
            del sets[name]
