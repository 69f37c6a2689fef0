"""Databases made by coordd and by Milvus' own rootcoord: same answers, same keys, each lists the other's."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from coordd.meta.codecs import TOMBSTONE
from coordd.pb import etcd_meta_pb2, milvus_pb2
from tests.interop.scenario import connect
from tests.interop.test_recorded import RECORDING
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.install import LabError
from tests.lab.recorder import base, open_rootcoord
from tests.lab.recording import load
from tests.lab.wire import Stub

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

LIMIT = 8
PLAIN = "by-dev/meta/root-coord/database/db-info/"
HISTORY = "by-dev/meta/snapshots/root-coord/database/db-info/"
TAKEOVER_S = 30.0
# Method, name, base's message type ("" for none). The recorded cluster has default, analytics (which has
# collections) and empty_db; dropped_db has been there.
CALLS = (
    *(("CreateDatabase", "music", "CreateDatabase"), ("CreateDatabase", "music", "CreateDatabase")),
    *(("CreateDatabase", "default", ""), ("CreateDatabase", "analytics", "CreateDatabase")),
    *(("CreateDatabase", "no_base", ""), ("CreateDatabase", "wrong_base", "DropCollection")),
    *(("CreateDatabase", "1bad", ""), ("CreateDatabase", "a b/c", ""), ("CreateDatabase", "ü" * 200, "")),
    *(("CreateDatabase", "one_more", ""), ("CreateDatabase", "too_many", "")),
    *(("CreateDatabase", "music", ""), ("CreateDatabase", "default", "")),
    *(("DropDatabase", "default", ""), ("DropDatabase", "no_such", ""), ("DropDatabase", "analytics", "")),
    *(("DropDatabase", "music", "DropDatabase"), ("DropDatabase", "music", "DropDatabase")),
    *(("DropDatabase", "empty_db", ""), ("DropDatabase", "dropped_db", ""), ("DropDatabase", "a b/c", "")),
    *(("CreateDatabase", "music", ""), ("CreateDatabase", "dropped_db", ""), ("DropDatabase", "1bad", "")),
)


@contextmanager
def started(folder: Path, kind: str) -> Iterator[tuple[MilvusLab, Component]]:
    """A rootcoord on the recorded metadata."""
    with MilvusLab(folder, extra={"rootCoord": {"maxDatabaseNum": LIMIT}}) as lab:
        lab.etcd.load(load(RECORDING).etcd)
        if kind == "milvus":
            rootcoord = lab.start("rootcoord")
            lab.start_cluster(rootcoord=rootcoord, nodes=())
        else:
            rootcoord = lab.start_coordd("rootcoord")
        rootcoord.wait_state("Healthy")
        yield lab, rootcoord


def change(stub: Stub, method: str, name: str, kind: str = "") -> dict[str, Any]:
    """The answer as plain data; {} is success."""
    request = stub.request_class(method)(db_name=name, **({"base": base(kind)} if kind else {}))
    return json_format.MessageToDict(stub.call(method, request), preserving_proto_field_name=True)


def listed(stub: Stub) -> dict[str, int]:
    """Creation times by name."""
    answer = stub.call("ListDatabases", milvus_pb2.ListDatabasesRequest(base=base("ListDatabases")))
    return dict(zip(answer.db_names, answer.created_timestamp, strict=True))


def written(lab: MilvusLab) -> list[list[bytes]]:
    """What etcd holds of each database in order of the IDs: the values of its plain key and of its history.

    IDs and creation times are taken out once they are known to be the key's and the same in all.
    """
    plain = {int(key[len(PLAIN) :]): value for key, value in lab.etcd.dump(PLAIN).items()}
    history: dict[int, list[tuple[int, bytes]]] = {db_id: [] for db_id in plain}
    for key, value in lab.etcd.dump(HISTORY).items():
        db_id, _, timestamp = key[len(HISTORY) :].partition("_ts")
        history[int(db_id)].append((int(timestamp), value))
    out = []
    for db_id, value in sorted(plain.items()):
        values = [one for _, one in sorted(history[db_id])]
        assert values[-1] == value
        out.append([_without_run(one, db_id) for one in (value, *values)])
    return out


def _without_run(value: bytes, db_id: int) -> bytes:
    if value == TOMBSTONE:
        return value
    info = etcd_meta_pb2.DatabaseInfo.FromString(value)
    assert info.SerializeToString() == value
    assert info.id == db_id
    assert info.created_time > 0
    info.id = info.created_time = 1
    return info.SerializeToString()


def test_the_same_calls_get_the_same_answers_and_leave_the_same_keys(tmp_path: Path) -> None:
    outcomes = {}
    for kind in ("milvus", "coordd"):
        with started(tmp_path / kind, kind) as (lab, rootcoord), open_rootcoord(rootcoord.address) as stub:
            answers = [(call, change(stub, *call)) for call in CALLS]
            outcomes[kind] = (answers, sorted(listed(stub)), written(lab))
    answers, names, keys = outcomes["coordd"]
    for ours, theirs in zip(answers, outcomes["milvus"][0], strict=True):
        assert ours == theirs
    assert (names, keys) == outcomes["milvus"][1:]
    assert {answer.get("code", 0) for _, answer in answers} == {0, 801, 65535}
    assert "too_many" not in names


def test_the_nameless_database_of_milvus_is_refused(tmp_path: Path) -> None:
    """Milvus' rootcoord, but not its proxy, creates it, and drops the default database by that name."""
    text = "database name couldn't be empty: invalid database name[database=]"
    refused = {"error_code": "UnexpectedError", "code": 802, "reason": text, "detail": text}
    with MilvusLab(tmp_path) as lab:
        coordd = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=coordd, nodes=("proxy",))
        with open_rootcoord(coordd.address) as stub:
            for method in ("CreateDatabase", "DropDatabase"):
                assert change(stub, method, "") == refused
            assert set(listed(stub)) == {"default"}


def test_a_real_client_and_proxy_create_and_drop(tmp_path: Path) -> None:
    with MilvusLab(tmp_path) as lab, PymilvusClient(lab.files, tmp_path) as client:
        coordd = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=coordd, nodes=("proxy",))
        connect(lab, client)
        assert client.call("create_database", name="music") is None
        assert client.call("list_databases") == ["default", "music"]
        with pytest.raises(LabError, match="database already exist: music"):
            client.call("create_database", name="music")
        assert client.call("drop_database", name="music") is None
        assert client.call("list_databases") == ["default"]
        with pytest.raises(LabError, match="can not drop default database"):
            client.call("drop_database", name="default")


def test_each_takes_the_others_databases_over(tmp_path: Path) -> None:
    with MilvusLab(tmp_path) as lab:
        milvus = lab.start("rootcoord")
        lab.start_cluster(rootcoord=milvus, nodes=())
        with open_rootcoord(milvus.address) as stub:
            assert [change(stub, "CreateDatabase", f"m{n}") for n in range(3)] == [{}] * 3
            assert change(stub, "DropDatabase", "m1") == {}
            made = listed(stub)
        assert set(made) == {"default", "m0", "m2"}

        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()
        milvus.process.signal(signal.SIGKILL)
        lab.end_session("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        with open_rootcoord(coordd.address) as stub:
            assert listed(stub) == made
            assert change(stub, "DropDatabase", "m0") == {}
            assert [change(stub, "CreateDatabase", name) for name in ("c0", "c1", "m1")] == [{}] * 3
            assert change(stub, "DropDatabase", "c1") == {}
            made = listed(stub)
        assert set(made) == {"default", "m1", "m2", "c0"}

        again = lab.start("rootcoord", name="milvus-again")
        again.wait_standby()
        coordd.process.signal(signal.SIGTERM)
        again.wait_state("Healthy", timeout_s=TAKEOVER_S)
        with open_rootcoord(again.address) as stub:
            assert listed(stub) == made
            refused = change(stub, "CreateDatabase", "c0")
            assert refused["reason"] == "database already exist: c0", json.dumps(refused)
            assert change(stub, "CreateDatabase", "c1") == {}
            assert [change(stub, "DropDatabase", name) for name in ("c0", "m1", "m2")] == [{}] * 3
            assert set(listed(stub)) == {"default", "c1"}
