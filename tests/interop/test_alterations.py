"""Aliases, names and properties of collections, changed by a real client through a real proxy on coordd."""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.interop.scenario import connect
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab
from tests.lab.install import LabError

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

TAKEOVER_S = 30.0
NAMES = ("a", "b", "c", "x", "y", "z", "renamed")


def seen(client: PymilvusClient) -> dict[str, Any]:
    """Everything of each name that stands for a collection, aliases included."""
    out: dict[str, Any] = {}
    for name in NAMES:
        try:
            out[name] = client.call("describe_collection", name=name)
        except LabError as error:
            assert "collection not found" in str(error)  # noqa: PT017
    return out


def test_a_real_client_changes_what_milvus_has_made_and_milvus_goes_on_with_it(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        milvus = lab.start("rootcoord")
        lab.start_cluster(rootcoord=milvus, nodes=("proxy",))
        connect(lab, client)
        ids = {name: client.call("create_collection", name=name) for name in ("a", "b", "c")}
        client.call("create_database", name="music")
        client.call("create_alias", name="a", alias="x")
        client.call("create_alias", name="a", alias="z")

        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()
        milvus.process.signal(signal.SIGKILL)
        lab.end_session("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        assert seen(client)["x"]["collection_id"] == ids["a"]
        client.call("create_alias", name="b", alias="y")
        client.call("alter_alias", name="b", alias="x")
        client.call("drop_alias", alias="z")
        client.call("rename_collection", old="a", new="renamed")
        client.call("rename_collection", old="c", new="c", new_db="music")
        client.call("alter_properties", name="b", properties={"collection.ttl.seconds": 60})
        client.call("alter_properties", name="b", properties={"mmap.enabled": "true"})
        for op, arguments, text in (
            ("create_alias", {"name": "renamed", "alias": "x"}, "x is alias to another collection: b"),
            ("create_alias", {"name": "b", "alias": "renamed"}, "alias and collection name conflict"),
            ("alter_alias", {"name": "b", "alias": "no"}, "alias not found"),
            ("rename_collection", {"old": "renamed", "new": "y"}, "duplicated new collection name default:y"),
            ("rename_collection", {"old": "b", "new": "b", "new_db": "music"}, "must drop all aliases"),
        ):
            with pytest.raises(LabError, match=text):
                client.call(op, **arguments)
        found = seen(client)
        assert {name: one["collection_id"] for name, one in found.items()} == {
            "b": ids["b"],
            "x": ids["b"],
            "y": ids["b"],
            "renamed": ids["a"],
        }
        assert (found["b"]["aliases"], found["renamed"]["aliases"]) == (["x", "y"], [])
        assert client.call("list_collections", db_name="music") == ["c"]
        assert "collection.ttl.seconds" in str(found["b"]["properties"])

        again = lab.start("rootcoord", name="milvus-again")
        again.wait_standby()
        coordd.process.signal(signal.SIGTERM)
        again.wait_state("Healthy", timeout_s=TAKEOVER_S)
        assert seen(client) == found
        assert client.call("list_collections", db_name="music") == ["c"]
