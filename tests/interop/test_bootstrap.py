"""What coordd writes into an empty etcd is what Milvus writes there: key by key, value by value."""

import json
import re
import time
from pathlib import Path

import bcrypt
import pytest

from coordd.pb import etcd_meta_pb2
from tests.interop.scenario import metadata
from tests.interop.test_recorded import RECORDING
from tests.lab.cluster import MilvusLab
from tests.lab.recording import load

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

DATABASE = "by-dev/meta/root-coord/database/db-info/1"
DATABASE_HISTORY = re.compile(r"by-dev/meta/snapshots/root-coord/database/db-info/1_ts(\d+)")
ROOT_USER = "by-dev/meta/root-coord/credential/users/root"
BCRYPT_COST = b"$2a$04$"


def _milvus_defaults() -> dict[str, bytes]:
    """The part of a recorded Milvus that is there before any user does anything."""
    etcd = load(RECORDING).etcd
    credential = "by-dev/meta/root-coord/credential/"
    plain = {
        key: value
        for key, value in etcd.items()
        if key.startswith(f"{credential}grantee-privileges/public/")
        or key in (DATABASE, ROOT_USER, f"{credential}roles/admin", f"{credential}roles/public")
        or DATABASE_HISTORY.fullmatch(key)
    }
    grants = [v.decode() for k, v in plain.items() if "/grantee-privileges/" in k]
    ids = tuple(f"{credential}grantee-id/{grant}/" for grant in grants)
    return plain | {key: value for key, value in etcd.items() if key.startswith(ids)}


def _without_time(etcd: dict[str, bytes]) -> dict[str, bytes]:
    """Take out what differs from run to run: the snapshot's timestamp, the creation time, the salt."""
    out = {DATABASE_HISTORY.sub("<history>", key): value for key, value in etcd.items()}
    for key in (DATABASE, "<history>"):
        info = etcd_meta_pb2.DatabaseInfo.FromString(out[key])
        info.created_time = 1
        out[key] = info.SerializeToString(deterministic=True)
    out[ROOT_USER] = b"<password>"
    return out


def test_an_empty_etcd_gets_what_milvus_writes(tmp_path: Path) -> None:
    before_ns = time.time_ns()
    with MilvusLab(tmp_path, milvus=False) as lab:
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_state("Healthy")
        written = metadata(lab)
        marks = lab.etcd.dump("by-dev/kv/gid/")
    after_ns = time.time_ns()

    assert _without_time(written) == _without_time(_milvus_defaults())

    history = next(key for key in written if DATABASE_HISTORY.fullmatch(key))
    assert written[history] == written[DATABASE]
    created_ns = etcd_meta_pb2.DatabaseInfo.FromString(written[DATABASE]).created_time
    assert before_ns <= created_ns <= after_ns

    assert written[ROOT_USER].startswith(b'{"encrypted_password":"')
    password = json.loads(written[ROOT_USER])["encrypted_password"].encode()
    assert password.startswith(BCRYPT_COST)
    assert bcrypt.checkpw(b"Milvus", password)

    assert set(marks) == {"by-dev/kv/gid/timestamp", "by-dev/kv/gid/idTimestamp"}
    for mark in marks.values():
        assert before_ns < int.from_bytes(mark, "big") < after_ns + 60 * 10**9
