"""Privilege groups, and users and roles as one backup: methods of Milvus 2.5."""

from typing import Any

import pytest

from coordd.etcd import Delete, Event, Put
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.milvus_pb2 import (
    GrantEntity,
    OperatePrivilegeGroupRequest,
    PrivilegeEntity,
    PrivilegeGroupInfo,
    RBACMeta,
    RoleEntity,
    UserInfo,
)
from coordd.rootcoord.access import backup, grants, groups
from coordd.rootcoord.access.policies import has_group, policies
from tests.unit.meta.samples import LAYOUT, loaded
from tests.unit.rootcoord.test_access_plans import grant, planned, refusal, request, role, tables, user

ADD, REMOVE = 0, 1
REVOKE = 1
KEY = "by-dev/meta/root-coord/privilege-group/readers"


def group(name: str, *members: str) -> dict[str, bytes]:
    info = PrivilegeGroupInfo(group_name=name, privileges=[PrivilegeEntity(name=one) for one in members])
    return {LAYOUT.privilege_group(name): info.SerializeToString()}


def change(known: RootCoordTables, name: str, operation: int, *members: str) -> list[Any]:
    asked = OperatePrivilegeGroupRequest(
        group_name=name,
        type=operation,  # type: ignore[arg-type]
        privileges=[PrivilegeEntity(name=member) for member in members],
    )
    return list(groups.plan_change(known, LAYOUT, asked))


def members(writes: list[Any]) -> list[str]:
    [put] = writes
    assert put.key == KEY
    return [one.name for one in PrivilegeGroupInfo.FromString(put.value).privileges]


class TestGroups:
    def test_a_new_group_is_empty(self) -> None:
        [put] = groups.plan_create(tables(), LAYOUT, "readers")
        assert put == Put(KEY, PrivilegeGroupInfo(group_name="readers").SerializeToString())

    def test_refusals_of_create(self) -> None:
        known, legacy = tables(group("readers")), ErrorCode.CreatePrivilegeGroupFailure
        system = "is defined by built in privileges or privilege groups in system: invalid parameter"
        for name, text, code in (
            (" ", "the privilege group name is empty", 65535),
            ("readers", "privilege group name [readers] is defined by users: invalid parameter", 1100),
            ("Search", f"privilege group name [Search] {system}", 1100),
            ("ClusterAdmin", f"privilege group name [ClusterAdmin] {system}", 1100),
        ):
            got = refusal(lambda: groups.plan_create(known, LAYOUT, name))  # noqa: B023
            assert got == (text, code, legacy)
        assert refusal(lambda: groups.plan_create(known, LAYOUT, "a/b"))[1] == 1100

    def test_members_come_and_go(self) -> None:
        known = tables(group("readers", "Query"))
        assert members(change(known, "readers", ADD, "Search", "Query")) == ["Query", "Search"]
        assert members(change(known, "readers", REMOVE, "Query", "Search")) == []
        assert change(known, "readers", ADD, "Query") == []
        assert change(known, "readers", REMOVE, "Search") == []

    def test_a_group_adds_its_members(self) -> None:
        """With a third group Milvus refuses this."""
        known = tables(group("readers"), group("more", "Search", "Query"), group("third", "Load"))
        assert members(change(known, "readers", ADD, "more", "Load")) == ["Search", "Query", "Load"]

    def test_refusals_of_change(self) -> None:
        known, legacy = tables(group("readers", "Query")), ErrorCode.OperatePrivilegeGroupFailure
        builtin = "is defined by built in privilege groups in system: invalid parameter"
        for name, operation, member, text, code in (
            ("", ADD, "Search", "the privilege group name is empty", 65535),
            ("ReadOnly", ADD, "Search", f"the privilege group name [ReadOnly] {builtin}", 1100),
            (
                "none", ADD, "Search",
                "there is no privilege group name [none] to operate: invalid parameter", 1100,
            ),
            (
                "readers", ADD, "No",
                "there is no privilege name or privilege group name [No] defined in system to operate:"
                " invalid parameter", 1100,
            ),
            ("readers", ADD, "CreateDatabase", "privileges are not the same privilege level", 65535),
            ("readers", 7, "Search", "invalid operate type", 65535),
        ):  # fmt: skip
            got = refusal(lambda: change(known, name, operation, member))  # noqa: B023
            assert got == (text, code, legacy)

    def test_a_group_that_a_role_has_stays(self) -> None:
        granted = grant("reader", "Global", "books.songs", "PrivilegeGroupreaders")
        known = tables(role("reader"), group("readers"), group("unused"), granted)
        text = "privilege group [readers] is used by role [reader], Use REVOKE API to revoke it first"
        assert refusal(lambda: groups.plan_drop(known, LAYOUT, "readers")) == (
            text, 65535, ErrorCode.DropPrivilegeGroupFailure,
        )  # fmt: skip
        assert groups.plan_drop(known, LAYOUT, "unused") == (Delete(LAYOUT.privilege_group("unused")),)
        assert groups.plan_drop(known, LAYOUT, "no_such") == ()

    def test_those_of_milvus_come_after_those_of_users(self) -> None:
        listed = groups.listed(tables(group("z", "Search"), group("a")))
        assert [one.group_name for one in listed][:4] == ["a", "z", "ClusterReadOnly", "ClusterReadWrite"]
        assert len(listed) == 11

    def test_a_damaged_group_is_no_group(self) -> None:
        known, fold = loaded({LAYOUT.privilege_group("readers"): b"\xff"}, group("other"))
        assert "readers" not in known.privilege_groups
        assert len(known.privilege_groups) == 1
        wrong = Event(LAYOUT.privilege_group("other"), group("x")[LAYOUT.privilege_group("x")], 2, 0, 0, 0)
        fold.apply_commit(2, [wrong])
        assert len(known.privilege_groups) == 0
        assert len(fold.quarantine) == 2


class TestGrantOfGroup:
    def grant(self, known: RootCoordTables, name: str, db: str = "*", on: str = "*") -> list[Any]:
        return planned(known, request(kind="Global", privilege=name, db=db, name=on, version="v2"))

    def test_a_group_is_granted_by_its_name(self) -> None:
        known = tables(role("reader"), group("readers", "Search"))
        writes = self.grant(known, "readers", "books", "songs")
        assert writes[0].key == LAYOUT.grantee("reader", "Global", "books.songs")
        assert writes[1].key.endswith("/PrivilegeGroupreaders")
        assert self.grant(known, "ClusterAdmin")[1].key.endswith("/PrivilegeGroupClusterAdmin")

    def test_a_single_privilege_finds_its_type_of_object(self) -> None:
        known = tables(role("reader"))
        [first, _] = self.grant(known, "Search", "books", "songs")
        assert first.key == LAYOUT.grantee("reader", "Collection", "books.songs")

    @pytest.mark.parametrize(
        ("name", "db", "on", "text"),
        [
            ("ClusterAdmin", "books", "*", "dbName and collectionName should be * for the cluster level"),
            ("DatabaseAdmin", "books", "songs", "collectionName should be * for the database level"),
            ("CollectionAdmin", "*", "songs", "please specify database name for the collection level"),
        ],
    )
    def test_names_that_the_level_does_not_have(self, name: str, db: str, on: str, text: str) -> None:
        got = refusal(lambda: self.grant(tables(role("reader")), name, db, on))
        assert got == (
            f"{text} privilege: {name}: invalid parameter", 1100, ErrorCode.OperatePrivilegeFailure,
        )  # fmt: skip

    def test_the_first_interface_takes_no_groups(self) -> None:
        known = tables(role("reader"), group("readers", "Search"))
        for name, kind in (("readers", "custom"), ("ClusterAdmin", "built-in")):
            got = refusal(lambda: planned(known, request(privilege=name)))  # noqa: B023
            assert got[0] == f"can not operate the {kind} privilege group [{name}]"

    @pytest.mark.parametrize(
        ("name", "kind"), [("ReadOnly", "Collection"), ("ReadWrite", "Collection"), ("Admin", "Global")]
    )
    def test_what_proxies_of_2_3_do_not_know_the_first_interface_does_not_grant(
        self, name: str, kind: str
    ) -> None:
        known = tables(role("reader"))
        got = refusal(lambda: planned(known, request(kind=kind, privilege=name)))
        assert got == (f"not found the privilege name[{name}]", 65535, ErrorCode.OperatePrivilegeFailure)
        written = planned(known, request(kind=kind, privilege=name, version="v2"))
        assert written[1].key.endswith(f"/PrivilegeGroup{name}"), "only 2.5 speaks the second one"

    def test_what_2_5_granted_can_be_revoked(self) -> None:
        known = tables(role("reader"), grant("reader", "Collection", "*.*", "PrivilegeGroupReadOnly"))
        asked = request(privilege="ReadOnly", db="*", name="*", operation=REVOKE)
        [delete] = planned(known, asked)
        assert isinstance(delete, Delete)
        assert delete.key.endswith("/PrivilegeGroupReadOnly")

    def test_proxies_are_told_the_members(self) -> None:
        known = tables(
            role("reader"),
            group("readers", "Search", "ListDatabases", "no_such"),
            grant("reader", "Global", "books.songs", "PrivilegeGroupreaders"),
            grant("reader", "Collection", "books.songs", "PrivilegeSearch"),
        )
        assert policies(known) == [
            '{"PType":"p","V0":"reader","V1":"Collection-books.songs","V2":"PrivilegeSearch"}',
            '{"PType":"p","V0":"reader","V1":"Global-books.*","V2":"PrivilegeListDatabases"}',
        ]
        assert has_group(known, "reader")
        assert not has_group(known, "admin")


def full_tables() -> RootCoordTables:
    return tables(
        user("alice", "reader", "admin"),
        role("reader"),
        group("readers", "Search"),
        grant("reader", "Collection", "books.songs", "PrivilegeSearch", "*"),
        grant("reader", "Global", "*.*", "PrivilegeGroupreaders"),
        grant("public", "Global", "*.*", "PrivilegeShowCollections"),
    )


def restored(known: RootCoordTables, meta: RBACMeta) -> dict[str, bytes]:
    backup.check(known, meta)
    [part] = backup.cut(meta)
    writes = [*backup.plan_early(known, LAYOUT, meta), *backup.plan_names(known, LAYOUT, part)]
    return {write.key: write.value for write in writes if isinstance(write, Put)}


class TestBackup:
    def test_what_every_cluster_has_is_left_out(self) -> None:
        meta = backup.backup(full_tables())
        assert [(one.user, one.password, [r.name for r in one.roles]) for one in meta.users] == [
            ("alice", "x", ["admin", "reader"])
        ]
        assert [one.name for one in meta.roles] == ["reader"]
        assert [(one.object.name, one.db_name, one.grantor.privilege.name) for one in meta.grants] == [
            ("Collection", "books", "*"),
            ("Collection", "books", "Search"),
            ("Global", "*", "readers"),
        ]
        assert [one.group_name for one in meta.privilege_groups] == ["readers"]

    def test_there_and_back(self) -> None:
        meta = backup.backup(full_tables())
        empty = tables(grant("public", "Global", "*.*", "PrivilegeShowCollections"))
        again, _ = loaded(
            user("root"),
            role("admin"),
            role("public"),
            grant("public", "Global", "*.*", "PrivilegeShowCollections"),
            restored(empty, meta),
        )
        assert backup.backup(again) == meta
        assert policies(again) == policies(full_tables())

    def test_what_was_left_behind_under_a_name_does_not_come_back_with_it(self) -> None:
        meta = backup.backup(full_tables())
        of_another = {
            LAYOUT.user_role("bob", "reader"): b"",
            LAYOUT.user_role("alice", "boss"): b"",
            LAYOUT.user_role("alice", "reader"): b"",
            LAYOUT.user_role("bob", "boss"): b"",
        }
        keys = {
            **user("bob"),
            **role("boss"),
            **role("admin"),
            **grant("reader", "Collection", "books.songs", "PrivilegeSearch", "PrivilegeDelete"),
            **grant("reader", "Global", "*.*", "PrivilegeCreateCollection"),
            **grant("boss", "Global", "*.*", "PrivilegeCreateCollection"),
            **of_another,
        }
        [part] = backup.cut(meta)
        early = backup.plan_early(tables(keys), LAYOUT, meta)
        for write in (*early, *backup.plan_names(tables(keys), LAYOUT, part)):
            if isinstance(write, Put):
                keys[write.key] = write.value
            else:
                del keys[write.key]
        known = tables(keys)
        assert not backup.plan_early(known, LAYOUT, meta)
        again = backup.backup(known)
        assert [one for one in again.grants if one.role.name == "reader"] == list(meta.grants)
        assert {one.user: [r.name for r in one.roles] for one in again.users} == {
            "alice": ["admin", "reader"],
            "bob": ["boss"],
        }
        assert any(one.role.name == "boss" for one in again.grants), "of others nothing is taken away"

    def test_it_goes_on_where_it_was_broken_off(self) -> None:
        meta = backup.backup(full_tables())
        early = backup.plan_early(tables(), LAYOUT, meta)
        for done in range(len(early) + 1):
            known = tables({put.key: put.value for put in early[:done] if isinstance(put, Put)})
            assert {put.key for put in backup.plan_early(known, LAYOUT, meta)} == {
                put.key for put in early[done:]
            }
            backup.check(known, meta)

    @pytest.mark.parametrize(
        ("meta", "text"),
        [
            (RBACMeta(roles=[RoleEntity(name="reader")]), "role [reader] already exists"),
            (RBACMeta(users=[UserInfo(user="alice")]), "user [alice] already exists"),
            (
                RBACMeta(privilege_groups=[PrivilegeGroupInfo(group_name="readers")]),
                "privilege group [readers] already exists",
            ),
            (RBACMeta(grants=[GrantEntity()]), "privilege group [] does not exist"),
            (RBACMeta(roles=[RoleEntity(name="a"), RoleEntity(name="a")]), "a role is named twice"),
            (RBACMeta(users=[UserInfo(user="a/b")]), "user [a/b]: no key can carry that name"),
        ],
    )
    def test_refusals(self, meta: RBACMeta, text: str) -> None:
        got = refusal(lambda: backup.check(full_tables(), meta))
        assert got == (text, 65535, ErrorCode.OperatePrivilegeFailure)

    def test_names_are_cut_for_etcd(self) -> None:
        meta = RBACMeta(users=[UserInfo(user=f"u{n}") for n in range(250)], roles=[RoleEntity(name="r")])
        parts = backup.cut(meta)
        assert [len(part.roles) + len(part.users) for part in parts] == [100, 100, 51]
        assert backup.cut(RBACMeta()) == [RBACMeta()]

    def test_a_grant_without_names_is_refused(self) -> None:
        entity = request().entity
        entity.role.name = ""
        assert "no key can carry" in refusal(lambda: backup.check(tables(), RBACMeta(grants=[entity])))[0]


def test_a_group_that_proxies_take_apart_is_told_as_it_is() -> None:
    """Of 2.5, which has stored it."""
    known = tables(role("reader"), grant("reader", "Collection", "*.*", "PrivilegeGroupReadOnly"))
    assert policies(known) == [
        '{"PType":"p","V0":"reader","V1":"Collection-*.*","V2":"PrivilegeGroupReadOnly"}'
    ]
    assert grants.members_of(known, "ReadOnly") == ()
