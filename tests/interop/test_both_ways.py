"""Everything made under coordd is what Milvus' own rootcoord goes on with, and the other way round.

What counts is the answer to every read request (`tests.lab.probes`), and what pymilvus sees through a proxy.
Users who log in, rows and finished bulk inserts: `tests.interop.test_surface`.
"""

from pathlib import Path
from typing import Any

import pytest

from coordd.pb.common_pb2 import ImportState
from coordd.pb.root_coord_pb2 import ImportResult
from tests.interop.scenario import SESSION_TTL_S, TAKEOVER_S, ask, ask_again, connect, hand_over
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.recorder import open_rootcoord

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

Op = tuple[str, dict[str, Any]]


def op(what: str, /, **arguments: Any) -> Op:
    return what, arguments


# Of the data set of tests/lab/pymilvus_driver.py. Milvus does not write changed properties, so they are set
# by coordd only. Dropping an alias, or altering one, it deletes all that begin like it: none does here.
BY_MILVUS: tuple[Op, ...] = (
    *(op("create_database", name="made_later"), op("drop_database", name="empty_db")),
    op("bulk_insert", name="all_types", files=["asked_of_milvus.json"]),
    op("create_collection", name="made_later"),
    op("drop_collection", name="level_strong"),
    op("rename_collection", old="level_session", new="session"),
    op("rename_collection", old="level_bounded", new="bounded", new_db="made_later"),
    *(op("create_partition", name="partitioned", partition="p_2022"),),
    op("drop_partition", name="partitioned", partition="p_2020"),
    *(op("create_alias", name="made_later", alias="later"), op("drop_alias", alias="moving")),
    op("alter_alias", name="made_later", alias="latest"),
    *(op("create_user", name="dave", password="dave-secret"), op("delete_user", name="alice")),
    op("update_password", name="bob", old="bob-secret-2", new="bob-secret-3"),
    *(
        op("create_role", name="poet"),
        op("drop_role", name="unused"),
        op("add_user", role="poet", user="dave"),
    ),
    op("remove_user", role="reader", user="bob"),
    op("grant", role="poet", kind="Collection", name="made_later", privilege="Search"),
    op("grant", role="poet", kind="Collection", name="bounded", privilege="Load", db_name="made_later"),
    op("revoke", role="reader", kind="Collection", name="all_types", privilege="Query"),
)
BY_COORDD: tuple[Op, ...] = (
    *(op("create_database", name="made_last"), op("create_database", name="empty_db")),
    op("bulk_insert", name="all_types", files=["asked_again.json"]),
    op("alter_properties", name="made_later", properties={"collection.ttl.seconds": 60}),
    op("alter_properties", name="_with_Properties9", properties={"mmap.enabled": "true"}),
    op("drop_collection", name="session"),
    op("create_collection", name="level_strong"),
    op("rename_collection", old="partition_key_default", new="renamed_again"),
    op("drop_partition", name="partitioned", partition="p_2022"),
    op("create_partition", name="partitioned", partition="p_2020"),
    *(op("alter_alias", name="level_strong", alias="later"), op("drop_alias", alias="everything")),
    op("create_alias", name="partitioned", alias="moving"),
    *(op("create_user", name="alice", password="alice-again"), op("delete_user", name="bob")),
    op("revoke", role="poet", kind="Collection", name="made_later", privilege="Search"),
    op("revoke", role="poet", kind="Collection", name="bounded", privilege="Load", db_name="made_later"),
    *(op("drop_role", name="poet"), op("create_role", name="unused")),
    op("grant", role="unused", kind="User", name="*", privilege="SelectUser"),
    op("drop_database", name="made_last"),
)


RESTARTED = "task marked failed as service restarted"


def ask_for_imports(client: PymilvusClient, rootcoord: Component) -> None:
    """Two bulk inserts. No data node is there to take one, but the second is reported to be under way."""
    client.call("bulk_insert", name="all_types", files=["waits.json"])
    begun = client.call("bulk_insert", name="all_types", files=["under_way.json"])
    with open_rootcoord(rootcoord.address) as stub:
        report = ImportResult(task_id=begun, state=ImportState.ImportStarted)
        assert stub.call("ReportImport", report).error_code == 0


def import_tasks(client: PymilvusClient) -> dict[str, str]:
    """State and reason of failure by file; not whether a failed task has been cleaned up."""
    tasks = client.call("bulk_tasks", name="all_types")
    found = [client.call("bulk_state", task_id=task) for task in tasks]
    return {
        one["infos"]["files"]: f"{one['state'].split()[0]} {one['infos']['failed_reason']}".strip()
        for one in found
    }


def test_what_one_makes_the_other_goes_on_with(tmp_path: Path) -> None:
    with (
        MilvusLab(tmp_path / "lab", session_ttl_s=SESSION_TTL_S) as lab,
        PymilvusClient(lab.files, tmp_path) as client,
    ):
        active = lab.start_coordd("rootcoord")
        active.wait_state("Healthy", timeout_s=TAKEOVER_S)
        lab.start_cluster(rootcoord=active, nodes=("proxy",))
        connect(lab, client)
        dropped: dict[str, int] = client.call("dataset")
        ask_for_imports(client, active)
        tasks = import_tasks(client)
        assert tasks == {"waits.json": "Pending", "under_way.json": "Started"}
        answers, seen = ask(active, dropped), client.call("observe")
        for product, name, ops in (
            *(("milvus", "milvus-second", BY_MILVUS), ("coordd", "coordd-third", BY_COORDD)),
            ("milvus", "milvus-last", ()),
        ):
            active = hand_over(lab, active, product, name)
            answers.assert_same(ask_again(active, answers), reloaded=True)
            assert client.call("observe") == seen
            assert import_tasks(client) == {**tasks, "under_way.json": f"Failed {RESTARTED}"}, "by Milvus"
            for what, arguments in ops:
                client.call(what, **arguments)
            answers, seen, tasks = ask(active, dropped), client.call("observe"), import_tasks(client)
        assert_all_changed(seen)
        assert len(tasks) == 4


def assert_all_changed(seen: dict[str, Any]) -> None:
    """What all changes together have come to."""
    databases = seen["databases"]
    assert {*databases} == {"default", "analytics", "made_later", "empty_db"}
    found = databases["default"]
    for name, there in (
        *(("level_strong", True), ("renamed_again", True), ("made_later", True)),
        *(("session", False), ("partition_key_default", False), ("level_bounded", False)),
    ):
        assert (name in found) == there, name
    assert "bounded" in databases["made_later"]
    assert found["partitioned"]["partitions"] == ["_default", "_p", "p_2020", "p_2021"]
    assert found["level_strong"]["aliases"] == ["later"]
    assert found["partitioned"]["aliases"] == ["moving"]
    assert found["made_later"]["aliases"] == ["latest"]
    assert found["all_types"]["aliases"] == ["everything_again"]
    assert found["made_later"]["properties"] == {"collection.ttl.seconds": "60"}
    assert found["_with_Properties9"]["properties"]["mmap.enabled"] == "true"
    assert seen["users"] == ["alice", "carol", "dave", "root"]
    assert seen["user roles"] == {"alice": [], "carol": ["admin"], "dave": [], "root": []}
    assert {*seen["roles"]} == {"admin", "public", "reader", "writer", "unused"}
    assert "SelectUser" in str(seen["grants"]["unused"])
    assert "all_types" not in str([one for one in seen["grants"]["reader"] if "Query" in one])
