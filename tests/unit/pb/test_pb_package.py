"""Importing coordd.pb: what it does to the process that does it."""

from __future__ import annotations

import subprocess
import sys

from coordd.pb import common_pb2, data_coord_pb2, schema_pb2

IMPORT_TWICE = """
import importlib, pkgutil, sys
from google.protobuf import descriptor_pool
import coordd.pb

names = [module.name for module in pkgutil.iter_modules(coordd.pb.__path__, "coordd.pb.")]
for _ in range(2):
    for name in names:
        sys.modules.pop(name, None)
    for name in names:
        importlib.import_module(name)

pool = descriptor_pool.Default()
for name in names:
    file = name.rpartition(".")[2].removesuffix("_pb2") + ".proto"
    pool.FindFileByName("coordd/pb/" + file)
    try:
        pool.FindFileByName(file)
    except KeyError:
        print("free:", file)
    else:
        print("claimed:", file)
"""


def test_two_imports_claim_no_bare_file_name_and_do_not_warn() -> None:
    # Milvus' own generated code (pymilvus) registers common.proto and the like in the same pool.
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_TWICE],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert "free: common.proto" in lines
    assert len(lines) == 13
    assert [line for line in lines if not line.startswith("free:")] == []


def test_enum_value_named_none_is_reached_by_name() -> None:
    assert schema_pb2.DataType.Value("None") == 0
    assert schema_pb2.DataType.Name(schema_pb2.DataType.Value("None")) == "None"


def test_compaction_state_of_a_2_3_node_can_be_read_again_as_its_own_type() -> None:
    old = data_coord_pb2.CompactionStateResult(
        planID=7,
        state=common_pb2.CompactionState.Completed,
        result=data_coord_pb2.CompactionResult(planID=7, segmentID=42, num_of_rows=3),
    )
    answer = data_coord_pb2.CompactionStateResponse()
    answer.results.add().ParseFromString(old.SerializeToString())

    received = data_coord_pb2.CompactionStateResponse.FromString(answer.SerializeToString()).results[0]

    assert received.planID == 7
    assert received.segments[0].segmentID == 42
    assert data_coord_pb2.CompactionStateResult.FromString(received.SerializeToString()) == old
