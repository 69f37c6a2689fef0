"""Users, roles and grants: what is written and what is refused. Texts were recorded from Milvus 2.3.5."""

from collections.abc import Sequence
from typing import Any

import pytest

from coordd.etcd import Delete, Put
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.milvus_pb2 import (
    GrantEntity,
    GrantorEntity,
    ObjectEntity,
    OperatePrivilegeRequest,
    PrivilegeEntity,
    RoleEntity,
    UserEntity,
)
from coordd.rootcoord.access import grants, roles, users
from coordd.rootcoord.access.privileges import (
    BUILTIN_GROUPS,
    BY_OBJECT_TYPE,
    api_name,
    level_of,
    object_type_of,
    stored_name,
)
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import LAYOUT, loaded

ADD, REMOVE = 0, 1
GRANT, REVOKE = 0, 1
HASH = "$2a$04$abc"
# As 2.3.5 stored it for role `reader` on collection `songs` of the default database.
GRANTEE = "by-dev/meta/root-coord/credential/grantee-privileges/reader/Collection/default.songs"


def user(name: str, *having: str) -> dict[str, bytes]:
    keys = {LAYOUT.user(name): b'{"encrypted_password":"x"}'}
    return keys | {LAYOUT.user_role(name, role): b"" for role in having}


def role(name: str) -> dict[str, bytes]:
    return {LAYOUT.role(name): b""}


def grant(
    role_name: str, object_type: str, object_key: str, *privileges: str, grant_id: str = ""
) -> dict[str, bytes]:
    known = grant_id or LAYOUT.new_grant_id(role_name, object_type, object_key)
    keys = {LAYOUT.grantee(role_name, object_type, object_key): known.encode()}
    return keys | {LAYOUT.grantee_id(known, privilege): b"root" for privilege in privileges}


def tables(*states: dict[str, bytes]) -> RootCoordTables:
    return loaded(user("root"), role("admin"), role("public"), *states)[0]


def flat(groups: Sequence[Sequence[Any]]) -> list[Any]:
    return [write for group in groups for write in group]


def refusal(make: Any) -> tuple[str, int, int]:
    """Reason, code and legacy code."""
    with pytest.raises(MilvusError) as caught:
        make()
    status = caught.value.to_status()
    return status.reason, status.code, status.error_code


class TestCreateUser:
    def create(self, known: RootCoordTables, name: str, limit: int = 100) -> list[Any]:
        return flat(users.plan_create(known, LAYOUT, name, HASH, limit=limit))

    def test_the_hash_is_stored_as_it_came(self) -> None:
        assert self.create(tables(), "alice") == [
            Put(
                "by-dev/meta/root-coord/credential/users/alice",
                b'{"encrypted_password":"$2a$04$abc"}',
            )
        ]

    def test_refusals(self) -> None:
        known, legacy = tables(user("alice")), ErrorCode.CreateCredentialFailure
        assert refusal(lambda: self.create(known, "")) == ("username is empty", 65535, legacy)
        assert refusal(lambda: self.create(known, "alice")) == ("user already exists: alice", 65535, legacy)
        full = "unable to add user because the number of users has reached the limit"
        assert refusal(lambda: self.create(known, "bob", 2)) == (full, 65535, legacy)
        assert refusal(lambda: self.create(known, "alice", 2)) == (full, 65535, legacy)
        assert refusal(lambda: self.create(known, "a//b"))[2] == legacy

    def test_a_damaged_user_is_not_made_anew_and_counts(self) -> None:
        known = tables({LAYOUT.user("alice"): b"{"})
        assert refusal(lambda: self.create(known, "alice"))[0] == "user already exists: alice"
        assert "limit" in refusal(lambda: self.create(known, "bob", 2))[0]

    def test_roles_left_behind_are_not_his(self) -> None:
        known = tables({LAYOUT.user_role("alice", "admin"): b""})
        assert self.create(known, "alice")[0] == Delete(LAYOUT.user_role("alice", "admin"))


class TestUpdateAndDeleteUser:
    def test_an_update_makes_the_user_too(self) -> None:
        [put] = flat(users.plan_update(tables(), LAYOUT, "nobody", HASH))
        assert put == Put(LAYOUT.user("nobody"), b'{"encrypted_password":"$2a$04$abc"}')
        legacy = ErrorCode.UpdateCredentialFailure
        refused = refusal(lambda: users.plan_update(tables(), LAYOUT, "", HASH))
        assert refused == ("username is empty", 65535, legacy)

    def test_roles_left_behind_are_not_those_of_a_user_whom_an_update_makes(self) -> None:
        left = {LAYOUT.user_role("alice", "admin"): b""}
        deleted = Delete(LAYOUT.user_role("alice", "admin"))
        assert deleted in flat(users.plan_update(tables(left), LAYOUT, "alice", HASH))
        assert deleted not in flat(users.plan_update(tables(user("alice"), left), LAYOUT, "alice", HASH))

    def test_the_user_goes_first_then_his_roles(self) -> None:
        known = tables(user("alice", "admin", "public"), user("alicea", "admin"))
        assert flat(users.plan_delete(known, LAYOUT, "alice")) == [
            Delete(LAYOUT.user("alice")),
            Delete(LAYOUT.user_role("alice", "admin")),
            Delete(LAYOUT.user_role("alice", "public")),
        ]

    def test_nobody_and_the_damaged_can_be_deleted(self) -> None:
        assert flat(users.plan_delete(tables(), LAYOUT, "nobody")) == []
        assert flat(users.plan_delete(tables(), LAYOUT, "a//b")) == []
        known = tables({LAYOUT.user("alice"): b"{"})
        assert flat(users.plan_delete(known, LAYOUT, "alice")) == [Delete(LAYOUT.user("alice"))]

    @pytest.mark.parametrize("name", ["", "  "])
    def test_no_name_is_refused(self, name: str) -> None:
        text = "fail to execute task when deleting the user"
        assert refusal(lambda: users.plan_delete(tables(), LAYOUT, name)) == (
            text, 65535, ErrorCode.DeleteCredentialFailure,
        )  # fmt: skip


class TestRoles:
    def create(self, known: RootCoordTables, name: str, limit: int = 10) -> list[Any]:
        return flat(roles.plan_create(known, LAYOUT, name, limit=limit))

    def test_a_role_is_an_empty_key(self) -> None:
        assert self.create(tables(), "reader") == [Put("by-dev/meta/root-coord/credential/roles/reader", b"")]

    def test_refusals_of_create(self) -> None:
        legacy = ErrorCode.CreateRoleFailure
        known = tables(role("reader"))
        assert refusal(lambda: self.create(known, " ")) == (
            "the role name in the role info is empty", 65535, legacy,
        )  # fmt: skip
        assert refusal(lambda: self.create(known, "reader", 3))[0] == 'role [name:"reader"] already exists'
        full = "unable to create role because the number of roles has reached the limit"
        assert refusal(lambda: self.create(known, "writer", 3)) == (full, 65535, legacy)
        assert refusal(lambda: self.create(known, "a/b"))[2] == legacy

    def test_what_an_older_role_left_behind_goes_first(self) -> None:
        left = grant("reader", "Collection", "books.novels", "PrivilegeSearch")
        known = tables(left, {LAYOUT.user_role("alice", "reader"): b""})
        grant_id = LAYOUT.new_grant_id("reader", "Collection", "books.novels")
        assert self.create(known, "reader") == [
            Delete(LAYOUT.user_role("alice", "reader")),
            Delete(LAYOUT.grantee_id(grant_id, "PrivilegeSearch")),
            Put(LAYOUT.role("reader"), b""),
        ]

    def test_a_dropped_role_goes_before_who_had_it(self) -> None:
        known = tables(role("reader"), user("alice", "reader", "admin"), user("bob", "reader"))
        roles.check_drop(known, "reader", builtin=(), force=False)
        assert flat(roles.plan_drop(known, LAYOUT, "reader", force=False)) == [
            Delete(LAYOUT.role("reader")),
            Delete(LAYOUT.user_role("alice", "reader")),
            Delete(LAYOUT.user_role("bob", "reader")),
        ]
        assert flat(roles.plan_rest(known, LAYOUT, "reader")) == [], "it is there"

    def test_refusals_of_drop(self) -> None:
        known = tables(role("reader"))

        def drop(name: str, *builtin: str) -> None:
            roles.check_drop(known, name, builtin=builtin, force=False)

        missing = "not found the role, maybe the role isn't existed or internal system error"
        assert refusal(lambda: drop("")) == (missing, 65535, ErrorCode.DropRoleFailure)
        assert refusal(lambda: drop("no_such")) == (missing, 65535, ErrorCode.DropRoleFailure)
        builtin = "the role[reader] is a builtin role, which can't be dropped: privilege not permitted"
        assert refusal(lambda: drop("reader", "reader")) == (builtin, 1401, ErrorCode.UnexpectedError)

    @pytest.mark.parametrize("place", ["default.songs", "books.novels", "*.*", "songs"])
    def test_pitfall_14_privileges_in_any_database_keep_a_role(self, place: str) -> None:
        """Milvus 2.3.5 looks at those in `default` and `*` only."""
        known = tables(role("reader"), grant("reader", "Collection", place, "PrivilegeSearch"))
        text = "fail to drop the role that it has privileges. Use REVOKE API to revoke privileges"
        assert refusal(lambda: roles.check_drop(known, "reader", builtin=(), force=False)) == (
            text, 65535, ErrorCode.DropRoleFailure,
        )  # fmt: skip
        roles.check_drop(known, "reader", builtin=(), force=True)
        [first, *deleted] = flat(roles.plan_drop(known, LAYOUT, "reader", force=True))
        grant_id = LAYOUT.new_grant_id("reader", "Collection", place)
        assert deleted == [Delete(LAYOUT.grantee_id(grant_id, "PrivilegeSearch"))]
        assert first == Delete(LAYOUT.role("reader"))

    def test_a_grant_without_privileges_does_not(self) -> None:
        known = tables(role("reader"), grant("reader", "Collection", "default.songs"))
        roles.check_drop(known, "reader", builtin=(), force=False)

    def test_a_role_that_is_gone_needs_no_more_writes(self) -> None:
        assert flat(roles.plan_drop(tables(), LAYOUT, "reader", force=False)) == []


class TestUserRole:
    def change(self, known: RootCoordTables, name: str, having: str, operation: int) -> list[Any]:
        return list(roles.plan_user_role(known, LAYOUT, name, having, operation))

    def test_add_and_remove_are_idempotent(self) -> None:
        without = tables(user("alice"), role("reader"))
        having = tables(user("alice", "reader"), role("reader"))
        key = "by-dev/meta/root-coord/credential/user-role-mapping/alice/reader"
        assert self.change(without, "alice", "reader", ADD) == [Put(key, b"")]
        assert self.change(having, "alice", "reader", ADD) == []
        assert self.change(having, "alice", "reader", REMOVE) == [Delete(key)]
        assert self.change(without, "alice", "reader", REMOVE) == []

    def test_a_role_can_be_taken_from_nobody(self) -> None:
        assert self.change(tables(role("reader")), "nobody", "reader", REMOVE) == []
        assert self.change(tables(role("reader")), "a/b", "reader", REMOVE) == []

    def test_refusals(self) -> None:
        known, legacy = tables(role("reader"), user("alice")), ErrorCode.OperateUserRoleFailure
        no_role = "not found the role, maybe the role isn't existed or internal system error"
        no_user = "not found the user, maybe the user isn't existed or internal system error"
        failed = "fail to execute task when operate the user and role"
        for name, having, operation, text in (
            ("alice", "no_such", ADD, no_role),
            ("alice", "", REMOVE, no_role),
            ("nobody", "reader", ADD, no_user),
            ("", "reader", ADD, no_user),
            ("", "reader", REMOVE, failed),
            ("alice", "reader", 7, failed),
        ):
            got = refusal(lambda: self.change(known, name, having, operation))  # noqa: B023
            assert got == (text, 65535, legacy)


def request(
    *,
    role_name: str = "reader",
    kind: str = "Collection",
    name: str = "songs",
    db: str = "",
    privilege: str = "Search",
    grantor: str = "root",
    operation: int = GRANT,
    version: str = "",
) -> OperatePrivilegeRequest:
    return OperatePrivilegeRequest(
        type=operation,  # type: ignore[arg-type]
        version=version,
        entity=GrantEntity(
            role=RoleEntity(name=role_name),
            object=ObjectEntity(name=kind),
            object_name=name,
            db_name=db,
            grantor=GrantorEntity(user=UserEntity(name=grantor), privilege=PrivilegeEntity(name=privilege)),
        ),
    )


def planned(known: RootCoordTables, asked: OperatePrivilegeRequest) -> list[Any]:
    return list(grants.plan_change(known, LAYOUT, grants.check(known, asked)))


class TestGrant:
    def test_a_new_grant_has_a_key_and_its_privilege_another(self) -> None:
        known = tables(role("reader"))
        grant_id = LAYOUT.new_grant_id("reader", "Collection", "default.songs")
        assert planned(known, request()) == [
            Put(GRANTEE, grant_id.encode()),
            Put(f"by-dev/meta/root-coord/credential/grantee-id/{grant_id}/PrivilegeSearch", b"root"),
        ]

    def test_a_second_privilege_joins_the_grant(self) -> None:
        known = tables(
            role("reader"),
            grant("reader", "Collection", "default.songs", "PrivilegeSearch", grant_id="0123456789abcdef"),
        )
        assert planned(known, request(privilege="Query")) == [
            Put(LAYOUT.grantee_id("0123456789abcdef", "PrivilegeQuery"), b"root")
        ]
        assert planned(known, request()) == []

    def test_revoking_leaves_the_grant_itself(self) -> None:
        known = tables(role("reader"), grant("reader", "Collection", "default.songs", "PrivilegeSearch"))
        grant_id = LAYOUT.new_grant_id("reader", "Collection", "default.songs")
        key = LAYOUT.grantee_id(grant_id, "PrivilegeSearch")
        assert planned(known, request(operation=REVOKE)) == [Delete(key)]
        assert planned(known, request(operation=REVOKE, privilege="Query")) == []
        assert planned(known, request(operation=REVOKE, name="books")) == []

    def test_the_old_key_without_a_database_is_that_of_the_default_one(self) -> None:
        old = grant("reader", "Collection", "songs", "PrivilegeSearch", grant_id="00ff00ff00ff00ff")
        known = tables(role("reader"), old)
        assert planned(known, request(privilege="Query")) == [
            Put(LAYOUT.grantee_id("00ff00ff00ff00ff", "PrivilegeQuery"), b"root")
        ]
        assert planned(known, request(operation=REVOKE)) == [
            Delete(LAYOUT.grantee_id("00ff00ff00ff00ff", "PrivilegeSearch"))
        ]
        assert planned(known, request(db="books"))[0].key == LAYOUT.grantee(
            "reader", "Collection", "books.songs"
        )

    def test_what_is_global_is_on_every_object(self) -> None:
        known = tables(role("reader"))
        asked = grants.check(known, request(kind="Global", name="whatever", privilege="CreateCollection"))
        assert (asked.object_key, asked.privilege) == ("default.*", "PrivilegeCreateCollection")

    @pytest.mark.parametrize("kind", ["Collection", "Global", "User"])
    def test_any_privilege_stays_as_it_is(self, kind: str) -> None:
        assert grants.check(tables(role("reader")), request(kind=kind, privilege="*")).privilege == "*"

    def test_refusals_and_their_order(self) -> None:
        known = tables(role("reader"))
        legacy = ErrorCode.OperatePrivilegeFailure
        types = "supported the object types: [Collection Global User]"
        no_role = "not found the role, maybe the role isn't existed or internal system error"
        no_user = "not found the user, maybe the user isn't existed or internal system error"
        wrong_type = "invalid operate privilege type, current type: 7, valid value: [Grant, Revoke]"
        everything = {"role_name": "", "kind": "X", "grantor": "", "privilege": "No"}
        for asked, text in (
            (request(**everything, operation=7), wrong_type),
            (OperatePrivilegeRequest(), "the grant entity in the request is nil"),
            (OperatePrivilegeRequest(entity=GrantEntity()), "the object entity is nil"),
            (request(**everything), f"not found the object type[name: X], {types}"),
            (request(**{**everything, "kind": "User"}), "the name in the role entity is empty"),
            (request(role_name="no_such", grantor=""), no_role),
            (request(grantor=""), "the name in the user entity of the grantor entity is empty"),
            (request(grantor="nobody"), no_user),
            (request(privilege="No"), "not found the privilege name[No]"),
            (request(privilege=""), "not found the privilege name[]"),
            (request(privilege="CreateCollection"), "not found the privilege name[CreateCollection]"),
            (request(kind="User"), "not found the privilege name[Search]"),
            (request(name=""), "the object name in the grant entity is empty"),
            (request(name="  "), "the object name in the grant entity is empty"),
        ):
            assert refusal(lambda: grants.check(known, asked)) == (text, 65535, legacy)  # noqa: B023

    @pytest.mark.parametrize(
        ("missing", "text"),
        [
            ("role", "the role entity is nil"),
            ("grantor", "the grantor entity is nil"),
            ("user", "the user entity in the grantor entity is nil"),
            ("privilege", "the privilege entity in the grantor entity is nil"),
        ],
    )
    def test_what_is_left_out_is_named(self, missing: str, text: str) -> None:
        asked = request()
        holder = asked.entity if missing in ("role", "grantor") else asked.entity.grantor
        holder.ClearField(missing)  # type: ignore[arg-type]
        assert refusal(lambda: grants.check(tables(role("reader")), asked))[0] == text

    def test_pitfall_14_names_with_dots(self) -> None:
        """An object may have a dot in its name: it is read back whole. A database may not."""
        known, fold = loaded(user("root"), role("reader"))
        writes = planned(known, request(name="a.b", db="books"))
        keys = {write.key: write.value for write in writes}
        read, _ = loaded(user("root"), role("reader"), keys)
        [found] = read.grants.of_role("reader")
        assert (found.db_name, found.object_name) == ("books", "a.b")
        assert "has a dot in it" in refusal(lambda: planned(known, request(db="a.b")))[0]
        assert fold.revision

    def test_a_name_that_no_key_can_carry(self) -> None:
        assert "no key can carry" in refusal(lambda: planned(tables(role("reader")), request(name="a/b")))[0]


class TestNames:
    def test_each_privilege_that_can_be_granted_is_one(self) -> None:
        for names in BY_OBJECT_TYPE.values():
            for name in names:
                stored = stored_name(name)
                assert stored is not None
                assert api_name(stored) == name

    def test_groups_have_members_of_their_level_only(self) -> None:
        for name, members in BUILTIN_GROUPS.items():
            assert {level_of(member) for member in members} == {
                next(level for level in ("Cluster", "Database", "Collection") if name.startswith(level))
            }
            assert all(stored_name(member) for member in members)
            assert stored_name(name) == f"PrivilegeGroup{name}"

    @pytest.mark.parametrize(
        ("stored", "name"),
        [
            ("*", "*"),
            ("PrivilegeSearch", "Search"),
            ("PrivilegeGroupReadOnly", "ReadOnly"),
            ("PrivilegeGroupmine", "mine"),
            ("PrivilegeNoSuch", ""),
            ("Search", ""),
        ],
    )
    def test_as_clients_say_it(self, stored: str, name: str) -> None:
        assert api_name(stored) == name

    def test_the_type_of_object(self) -> None:
        assert [object_type_of(name) for name in ("Search", "UpdateUser", "All", "mine")] == [
            "Collection", "User", "Global", "Global",
        ]  # fmt: skip
