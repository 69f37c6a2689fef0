"""What a new cluster lacks is planned exactly as Milvus writes it, and only what is lacking."""

import json

import bcrypt
import pytest

from coordd.config.access import BuiltinGrant
from coordd.etcd import Put
from coordd.meta.tables import RootCoordTables
from coordd.pb.etcd_meta_pb2 import DatabaseInfo
from coordd.rootcoord.bootstrap import Missing, batches, expected, find_missing, plan, unknown_grants
from coordd.rootcoord.coordinator import encrypt
from tests.unit.rootcoord.recorded import LAYOUT, etcd_values, world

NOW_NS = 1_700_000_000_123_456_789
TIMESTAMP = 446_000_000_000_000_001
META = "by-dev/meta/"


def written(missing: Missing, tables: RootCoordTables) -> dict[str, bytes]:
    puts = plan(
        missing,
        LAYOUT,
        tables,
        timestamp=TIMESTAMP,
        now_ns=NOW_NS,
        encrypted_root_password="$2a$",
    )
    assert all(isinstance(put, Put) for put in puts)
    return {put.key: put.value for put in puts if isinstance(put, Put)}


async def test_an_empty_cluster_gets_what_milvus_gives_it() -> None:
    place = await world({})
    missing = find_missing(place.tables, public_grants=True)
    keys = written(missing, place.tables)
    recorded = etcd_values()
    same = {key: value for key, value in keys.items() if "db-info" not in key and "users" not in key}
    assert {key: recorded[key] for key in same} == same
    assert len(same) == 2 + 2 + 3
    info = DatabaseInfo(name="default", id=1, state="DatabaseCreated", created_time=NOW_NS)
    assert keys[f"{META}root-coord/database/db-info/1"] == info.SerializeToString()
    assert keys[f"{META}snapshots/root-coord/database/db-info/1_ts{TIMESTAMP}"] == info.SerializeToString()
    assert keys[f"{META}root-coord/credential/users/root"] == b'{"encrypted_password":"$2a$"}'
    assert expected(missing, LAYOUT) == {f"{META}root-coord/credential/users/root": 0}


async def test_a_complete_cluster_gets_nothing() -> None:
    place = await world()
    missing = find_missing(place.tables, public_grants=True)
    assert not missing
    assert written(missing, place.tables) == {}
    assert expected(missing, LAYOUT) == {}


@pytest.mark.parametrize(
    "lost",
    [
        "root-coord/credential/roles/admin",
        "root-coord/credential/users/root",
        "root-coord/credential/grantee-id/250dd41b686083b0/PrivilegeShowCollections",
        "root-coord/credential/grantee-privileges/public/Collection/*.*",
    ],
)
async def test_one_missing_thing_is_written_and_nothing_else(lost: str) -> None:
    values = {key: value for key, value in etcd_values().items() if key != META + lost}
    place = await world(values)
    keys = written(find_missing(place.tables, public_grants=True), place.tables)
    if "grantee-privileges" in lost:
        keys.pop(f"{META}root-coord/credential/grantee-id/e03326696e8a3b16/PrivilegeIndexDetail")
    assert list(keys) == [META + lost]


async def test_an_existing_grant_keeps_its_id() -> None:
    """A grant that was made under another ID (an older Milvus) is added to, not replaced."""
    values = dict(etcd_values())
    values[f"{META}root-coord/credential/grantee-privileges/public/Global/*.*"] = b"0123456789abcdef"
    place = await world(values)
    keys = written(find_missing(place.tables, public_grants=True), place.tables)
    assert keys == {
        f"{META}root-coord/credential/grantee-id/0123456789abcdef/{privilege}": b"root"
        for privilege in ("PrivilegeDescribeCollection", "PrivilegeShowCollections")
    }


async def test_public_grants_can_be_switched_off() -> None:
    place = await world({})
    missing = find_missing(place.tables, public_grants=False)
    assert missing.grants == ()
    assert not any("grantee" in key for key in written(missing, place.tables))


async def test_a_root_user_whose_password_is_damaged_does_not_get_the_default_one() -> None:
    values = dict(etcd_values())
    values[f"{META}root-coord/credential/users/root"] = b"{not json"
    place = await world(values)
    assert find_missing(place.tables, public_grants=True) == Missing(
        default_database=False, root_user=False, roles=(), grants=()
    )


async def test_a_damaged_default_database_is_written_anew() -> None:
    values = dict(etcd_values())
    values[f"{META}root-coord/database/db-info/1"] = b"\xff\xff"
    place = await world(values)
    assert find_missing(place.tables, public_grants=True).default_database


BUILTIN = {
    "reader_of_all": (
        BuiltinGrant("Collection", "*", "Search", "*"),
        BuiltinGrant("Collection", "*", "Query", "*"),
        BuiltinGrant("Global", "*", "*", ""),
    )
}


async def test_roles_of_the_configuration_are_made() -> None:
    place = await world()
    missing = find_missing(place.tables, public_grants=True, builtin=BUILTIN)
    assert missing.roles == ("reader_of_all",)
    keys = written(missing, place.tables)
    first = LAYOUT.new_grant_id("reader_of_all", "Collection", "*.*")
    second = LAYOUT.new_grant_id("reader_of_all", "Global", "default.*")
    credential = f"{META}root-coord/credential/"
    assert keys == {
        f"{credential}roles/reader_of_all": b"",
        f"{credential}grantee-privileges/reader_of_all/Collection/*.*": first.encode(),
        f"{credential}grantee-id/{first}/PrivilegeSearch": b"root",
        f"{credential}grantee-id/{first}/PrivilegeQuery": b"root",
        f"{credential}grantee-privileges/reader_of_all/Global/default.*": second.encode(),
        f"{credential}grantee-id/{second}/*": b"root",
    }
    again = await world({**etcd_values(), **keys})
    assert not find_missing(again.tables, public_grants=True, builtin=BUILTIN)


async def test_a_privilege_of_the_configuration_that_is_none_is_left_out() -> None:
    wrong = (
        BuiltinGrant("Collection", "*", "Serch", "*"),
        BuiltinGrant("Colection", "*", "Search", "*"),
        BuiltinGrant("Collection", "", "Search", "*"),
        BuiltinGrant("Collection", "*", "Search", "a.b"),
        BuiltinGrant("Collection", "a/b", "Search", "*"),
    )
    place = await world()
    assert find_missing(place.tables, public_grants=True, builtin={"r": wrong}).grants == ()
    assert len(unknown_grants({"r": wrong})) == len(wrong)
    assert unknown_grants(BUILTIN) == []


async def test_many_grants_are_cut_for_etcd() -> None:
    many = tuple(BuiltinGrant("Collection", f"c{number}", "Search", "*") for number in range(100))
    place = await world({})
    missing = find_missing(place.tables, public_grants=True, builtin={"r": many})
    puts = plan(
        missing,
        LAYOUT,
        place.tables,
        timestamp=TIMESTAMP,
        now_ns=NOW_NS,
        encrypted_root_password="x",
    )
    cut = batches(puts)
    assert [write for batch in cut for write in batch] == puts
    assert len(cut) == 2
    assert LAYOUT.user("root") in {write.key for write in cut[0]}
    assert batches([]) == []


def test_passwords_are_stored_as_go_writes_them() -> None:
    stored = encrypt("Milvus")
    assert stored.startswith("$2a$04$")
    assert bcrypt.checkpw(b"Milvus", stored.encode())
    recorded = json.loads(etcd_values()[f"{META}root-coord/credential/users/root"])
    assert bcrypt.checkpw(b"Milvus", recorded["encrypted_password"].encode())
