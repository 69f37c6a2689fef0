"""Databases, aliases, users, roles and grants."""

import pytest

from coordd.meta.codecs import TOMBSTONE
from coordd.meta.tables import Database
from coordd.meta.tables.access import MAX_DEPARTED
from coordd.pb import data_coord_pb2, etcd_meta_pb2
from tests.unit.meta.samples import (
    DROPPING,
    LAYOUT,
    alias_value,
    collection,
    database,
    database_value,
    delete,
    loaded,
    oldest_alias_value,
    put,
)


def task_value(task_id: int, file: str = "") -> bytes:
    info = data_coord_pb2.ImportTaskInfo(id=task_id, files=[file or f"{task_id}.json"])
    return info.SerializeToString()


class TestDatabases:
    def test_by_id_and_by_name(self) -> None:
        tables, _ = loaded(database(1, "default", 17), database(12, "music"))
        expected = Database(1, "default", 1, 17, "")
        assert tables.databases.get(1) == expected
        assert tables.databases.by_name("default") == expected
        assert tables.databases.by_name("") == expected
        assert [one.id for one in tables.databases] == [1, 12]
        assert tables.databases.by_name("books") is None

    def test_rename_and_drop(self) -> None:
        tables, fold = loaded(database(1, "default"), database(2, "a"))
        fold.apply_commit(2, [put(LAYOUT.database(2), database_value(2, "b"), 2)])
        assert tables.databases.by_name("a") is None
        assert tables.databases.by_name("b") is not None
        fold.apply_commit(3, [put(LAYOUT.database(2), TOMBSTONE, 3)])
        assert tables.databases.by_name("b") is None
        assert len(tables.databases) == 1

    def test_of_two_with_one_name_the_higher_id_is_found(self) -> None:
        tables, fold = loaded(database(2, "a"), database(10, "a"))
        found = tables.databases.by_name("a")
        assert found is not None
        assert found.id == 10
        fold.apply_commit(2, [delete(LAYOUT.database(10), 2)])
        found = tables.databases.by_name("a")
        assert found is not None
        assert found.id == 2

    def test_properties_of_2_5(self) -> None:
        info = etcd_meta_pb2.DatabaseInfo(id=2, name="a")
        info.properties.add(key="database.replica.number", value="2")
        tables, _ = loaded({LAYOUT.database(2): info.SerializeToString()})
        found = tables.databases.get(2)
        assert found is not None
        assert found.properties == (("database.replica.number", "2"),)

    @pytest.mark.parametrize("value", [b"", b"\xff", database_value(3, "a"), database_value(2, "")])
    def test_bad_values(self, value: bytes) -> None:
        tables, fold = loaded(database(2, "a"))
        fold.apply_commit(2, [put(LAYOUT.database(2), value, 2)])
        assert LAYOUT.database(2) in fold.quarantine
        assert tables.databases.by_name("a") is None


class TestAliases:
    def test_all_three_forms(self) -> None:
        tables, _ = loaded(
            {
                LAYOUT.alias(1, "new"): alias_value("new", 50),
                LAYOUT.alias(0, "old"): alias_value("old", 50, db_id=0),
                LAYOUT.oldest_alias("oldest"): oldest_alias_value("oldest", 50),
                LAYOUT.alias(2, "new"): alias_value("new", 60, db_id=2),
            }
        )
        assert tables.aliases.of_collection(50) == ["new", "old", "oldest"]
        assert [alias.name for alias in tables.aliases.in_db(1)] == ["new", "old", "oldest"]
        assert [alias.collection_id for alias in tables.aliases.in_db(2)] == [60]
        assert [tables.aliases.get(db_id, "old") is not None for db_id in (0, 1, 2)] == [True, True, False]
        assert len(list(tables.aliases)) == len(tables.aliases) == 4

    def test_forms_of_one_alias_by_precedence(self) -> None:
        keys = {
            LAYOUT.oldest_alias("a"): oldest_alias_value("a", 50),
            LAYOUT.alias(1, "a"): alias_value("a", 60),
            LAYOUT.alias(0, "a"): alias_value("a", 70, db_id=0),
        }
        tables, fold = loaded(keys)
        seen = []
        for revision in (2, 3, 4):
            alias = tables.aliases.get(1, "a")
            assert alias is not None
            assert tables.aliases.of_collection(alias.collection_id) == ["a"]
            assert len(tables.aliases) == 1
            seen.append(alias.collection_id)
            fold.apply_commit(revision, [put(tables.aliases.keys_of(1, "a")[0], TOMBSTONE, revision)])
        assert seen == [70, 60, 50]
        assert tables.aliases.get(1, "a") is None
        assert tables.aliases.keys_of(1, "a") == ()
        assert tables.aliases._of_collection == {}

    def test_move_to_another_collection(self) -> None:
        tables, fold = loaded({LAYOUT.alias(1, "a"): alias_value("a", 50)})
        fold.apply_commit(2, [put(LAYOUT.alias(1, "a"), alias_value("a", 60), 2)])
        assert tables.aliases.of_collection(50) == []
        assert tables.aliases.of_collection(60) == ["a"]

    def test_an_alias_goes_before_a_collection_of_that_name(self) -> None:
        tables, fold = loaded(
            collection(50, "a"), collection(60, "b"), {LAYOUT.alias(1, "a"): alias_value("a", 60)}
        )
        found = tables.resolve(1, "a")
        assert found is not None
        assert found.collection_id == 60
        fold.apply_commit(
            2, [put(key, value, 2) for key, value in collection(60, "b", state=DROPPING).items()]
        )
        assert tables.resolve(1, "a") is None
        fold.apply_commit(3, [put(LAYOUT.alias(1, "a"), TOMBSTONE, 3)])
        found = tables.resolve(1, "a")
        assert found is not None
        assert found.collection_id == 50

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (LAYOUT.alias(1, "a"), alias_value("b", 50)),
            (LAYOUT.alias(1, "a"), alias_value("a", 0)),
            (LAYOUT.alias(1, "a"), b"\xff"),
            (LAYOUT.oldest_alias("a"), b""),
            (LAYOUT.alias_prefix + "1", alias_value("a", 50)),
            (LAYOUT.alias_prefix + "0/a", alias_value("a", 50)),
            (LAYOUT.old_alias_prefix + ".", alias_value(".", 50)),
        ],
    )
    def test_bad_values_and_keys(self, key: str, value: bytes) -> None:
        tables, fold = loaded({key: value})
        assert key in fold.quarantine
        assert len(tables.aliases) == 0


class TestUsers:
    def test_passwords(self) -> None:
        tables, fold = loaded(
            {
                LAYOUT.user("root"): b'{"encrypted_password":"$2a"}',
                LAYOUT.user("a"): b'{"encrypted_password":""}',
            }
        )
        assert tables.users.names() == ["a", "root"]
        assert tables.users.encrypted_password("root") == "$2a"
        assert "root" in tables.users
        assert tables.users.encrypted_password("nobody") is None
        fold.apply_commit(2, [delete(LAYOUT.user("root"), 2)])
        assert tables.users.names() == ["a"]

    def test_who_was_deleted_is_known_by_name(self) -> None:
        tables, fold = loaded({LAYOUT.user("a"): b'{"encrypted_password":"x"}'})
        for number in range(MAX_DEPARTED + 1):
            key, revision = LAYOUT.user(f"u{number}"), 2 + 2 * number
            fold.apply_commit(revision, [put(key, b'{"encrypted_password":"x"}', revision)])
            fold.apply_commit(revision + 1, [delete(key, revision + 1)])
        known = tables.users.known_names()
        assert (len(known), known[0]) == (1 + MAX_DEPARTED, "a")
        assert "u0" not in known
        assert f"u{MAX_DEPARTED}" in known
        assert tables.users.names() == ["a"]

    def test_a_damaged_user_is_neither_served_nor_forgotten(self) -> None:
        tables, fold = loaded({LAYOUT.user("root"): b'{"encrypted_password":"$2a"}'})
        fold.apply_commit(2, [put(LAYOUT.user("root"), b"{", 2)])
        assert "root" not in tables.users
        assert tables.users.encrypted_password("root") is None
        assert tables.users.is_damaged("root")
        fold.apply_commit(3, [delete(LAYOUT.user("root"), 3)])
        assert not tables.users.is_damaged("root")


class TestRoles:
    def test_exist_by_their_key_alone(self) -> None:
        tables, fold = loaded({LAYOUT.role("public"): b"", LAYOUT.role("admin"): b"whatever"})
        assert tables.roles.names() == ["admin", "public"]
        fold.apply_commit(2, [delete(LAYOUT.role("admin"), 2)])
        assert "admin" not in tables.roles
        assert len(tables.roles) == 1

    def test_who_has_which(self) -> None:
        pairs = [("a", "x"), ("a", "y"), ("a1", "x"), ("a$", "x")]
        tables, fold = loaded({LAYOUT.user_role(*pair): b"" for pair in pairs})
        assert tables.user_roles.roles_of("a") == ["x", "y"]
        # in key order, as etcd has them: `$` sorts before `/`, digits after it
        assert tables.user_roles.users_of("x") == ["a$", "a", "a1"]
        assert list(tables.user_roles) == [("a$", "x"), ("a", "x"), ("a", "y"), ("a1", "x")]
        assert sorted(LAYOUT.user_role(*pair) for pair in pairs) == [
            LAYOUT.user_role(*p) for p in tables.user_roles
        ]
        assert ("a", "x") in tables.user_roles
        fold.apply_commit(2, [delete(LAYOUT.user_role("a", "x"), 2), delete(LAYOUT.user_role("a", "y"), 2)])
        assert tables.user_roles.roles_of("a") == []
        assert ("a", "x") not in tables.user_roles

    def test_malformed_keys(self) -> None:
        keys = [LAYOUT.role_prefix + "a/b", LAYOUT.user_role_prefix + "a", LAYOUT.user_prefix + "a//b"]
        tables, fold = loaded(dict.fromkeys(keys, b"{}"))
        assert {bad.key for bad in fold.quarantine} == set(keys)
        assert (len(tables.roles), list(tables.user_roles), len(tables.users)) == (0, [], 0)
        fold.apply_commit(2, [delete(key, 2) for key in keys])
        assert len(fold.quarantine) == 0


class TestGrants:
    ID = "0123456789abcdef"

    def test_grants_and_their_privileges(self) -> None:
        tables, fold = loaded(
            {
                LAYOUT.grantee("r", "Collection", "default.books"): self.ID.encode(),
                LAYOUT.grantee("r", "Collection", "old"): b"b",
                LAYOUT.grantee("r", "Global", "*.*"): b"c",
                LAYOUT.grantee("r2", "User", "music.x.y"): b"d",
                LAYOUT.grantee_id(self.ID, "PrivilegeLoad"): b"root",
                LAYOUT.grantee_id(self.ID, "PrivilegeInsert"): b"",
            }
        )
        assert [(grant.db_name, grant.object_name) for grant in tables.grants] == [
            ("default", "books"),
            ("default", "old"),
            ("*", "*"),
            ("music", "x.y"),
        ]
        assert [grant.grant_id for grant in tables.grants.of_role("r")] == [self.ID, "b", "c"]
        assert tables.grants.get("r", "Collection", "books") is None
        grant = tables.grants.get("r", "Collection", "default.books")
        assert grant is not None
        assert tables.grants.privileges(grant.grant_id) == [
            ("PrivilegeInsert", ""),
            ("PrivilegeLoad", "root"),
        ]
        fold.apply_commit(2, [delete(LAYOUT.grantee("r2", "User", "music.x.y"), 2)])
        assert tables.grants.of_role("r2") == []
        fold.apply_commit(
            3, [delete(LAYOUT.grantee_id(self.ID, name), 3) for name in ("PrivilegeLoad", "PrivilegeInsert")]
        )
        assert tables.grants.privileges(self.ID) == []

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (LAYOUT.grantee("r", "Global", "*"), b""),
            (LAYOUT.grantee("r", "Global", "*"), b"a/b"),
            (LAYOUT.grantee("r", "Global", "*"), b"\xff"),
            (LAYOUT.grantee_prefix + "r/Global", b"a"),
            (LAYOUT.grantee_prefix + "r/Global/a/b", b"a"),
            (LAYOUT.grantee_id("a", "b"), b"\xff"),
            (LAYOUT.grantee_id_prefix + "a", b"x"),
        ],
    )
    def test_bad_values_and_keys(self, key: str, value: bytes) -> None:
        tables, fold = loaded({key: value})
        assert key in fold.quarantine
        assert list(tables.grants) == []
        assert (tables.grants._grants, tables.grants._grantors) == ({}, {})


class TestDdlMark:
    def test_its_revision_is_followed(self) -> None:
        tables, fold = loaded(database(1, "default"))
        assert (tables.ddl_mark.key, tables.ddl_mark.revision) == (LAYOUT.ddl("rootcoord"), 0)
        generation = tables.generation
        fold.apply_commit(2, [put(LAYOUT.ddl("rootcoord"), b"17", 2)])
        assert tables.ddl_mark.revision == 2
        fold.apply_commit(3, [put(LAYOUT.ddl("datacoord"), b"18", 3)])
        assert tables.ddl_mark.revision == 2
        fold.apply_commit(4, [delete(LAYOUT.ddl("rootcoord"), 4)])
        assert tables.ddl_mark.revision == 0
        assert tables.generation == generation

    def test_that_of_users_and_roles_is_another(self) -> None:
        tables, fold = loaded(database(1, "default"))
        assert tables.access_mark.key == "by-dev/meta/session-coordd/ddl/rootcoord-access"
        fold.apply_commit(2, [put(tables.access_mark.key, b"17", 2)])
        assert (tables.access_mark.revision, tables.ddl_mark.revision) == (2, 0)
        fold.apply_commit(3, [put(tables.ddl_mark.key, b"18", 3)])
        assert (tables.access_mark.revision, tables.ddl_mark.revision) == (2, 3)


class TestImportTasks:
    def test_by_id(self) -> None:
        tables, fold = loaded({LAYOUT.import_task(10): task_value(10), LAYOUT.import_task(9): task_value(9)})
        found = tables.import_tasks.get(9)
        assert found is not None
        assert list(found.files) == ["9.json"]
        assert [task.id for task in tables.import_tasks] == [9, 10]
        fold.apply_commit(2, [put(LAYOUT.import_task(10), task_value(10, "b"), 2)])
        fold.apply_commit(3, [delete(LAYOUT.import_task(9), 3)])
        assert [list(task.files) for task in tables.import_tasks] == [["b"]]
        assert len(tables.import_tasks) == 1
        assert tables.import_tasks.newest_id() == 10

    @pytest.mark.parametrize("value", [b"\xff", b"", task_value(8)])
    def test_a_bad_value_is_set_aside(self, value: bytes) -> None:
        tables, fold = loaded({LAYOUT.import_task(9): value})
        assert tables.import_tasks.get(9) is None
        assert tables.import_tasks.is_damaged(9)
        assert not tables.import_tasks.is_damaged(8)
        assert tables.import_tasks.newest_id() == 9
        fold.apply_commit(2, [put(LAYOUT.import_task(9), task_value(9), 2)])
        assert not tables.import_tasks.is_damaged(9)
        assert tables.import_tasks.get(9) is not None

    def test_a_key_that_is_none_of_a_task(self) -> None:
        tables, fold = loaded({f"{LAYOUT.import_task_prefix}x": task_value(9)})
        assert len(tables.import_tasks) == 0
        assert len(fold.quarantine) == 1
