"""Every read RPC answers what a real Milvus 2.3.5 answered, field by field, from the same etcd keys.

What may differ is what two runs of Milvus itself differ in: see `tests.lab.compare`.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from coordd.config import LoadedConfig, load_config
from coordd.pb import root_coord_pb2
from coordd.rootcoord.handlers import serve
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcFailure
from tests.lab.compare import compare
from tests.lab.recorder import Probe
from tests.unit.rootcoord.recorded import World, recording, world
from tests.unit.rootcoord.term import start_oracle

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
METHODS = sorted({probe.method for probe in recording().probes})


def lab_config(folder: Path) -> LoadedConfig:
    """The settings the recorded process had, taken from its own list of them."""
    items = recording().replies["ShowConfigurations ''"]["reply"]["configuations"]
    values = {item["key"]: item.get("value", "") for item in items}
    document: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        section = document
        for name in path:
            section = section.setdefault(name, {})
        if path:
            section[last] = value
    (folder / "milvus.yaml").write_text(yaml.safe_dump(document))
    return load_config(folder, env={"METRICS_PORT": values["commonmetricsport"]})


async def answer(dispatcher: Dispatcher, probe: Probe) -> dict[str, Any]:
    """Our answer to a probe in the form of the recording."""
    path = f"/{SERVICE.full_name}/{probe.method}"
    method = dispatcher.table.get(path)
    assert method is not None
    call = Call(method=path, metadata=dict(probe.metadata))
    try:
        raw = await dispatcher.dispatch(path, probe.request.SerializeToString(), call)
    except RpcFailure as failure:
        return {"grpc": failure.code.name, "details": failure.message}
    reply = method.response_type.FromString(raw)
    return {"reply": json_format.MessageToDict(reply, preserving_proto_field_name=True)}


def dispatcher_of(place: World) -> Dispatcher:
    table = DispatchTable()
    serve(table, place.handlers)
    return Dispatcher(table, place.gate, cluster="by-dev")


@pytest.mark.parametrize("method", METHODS)
async def test_answers_are_milvus_own(method: str, tmp_path: Path) -> None:
    probes = [probe for probe in recording().probes if probe.method == method]
    place = await world(config=lab_config(tmp_path))
    dispatcher = dispatcher_of(place)
    async with start_oracle(place):
        actual = {probe.name: await answer(dispatcher, probe) for probe in probes}
    expected = {probe.name: recording().replies[probe.name] for probe in probes}
    assert expected
    assert [str(difference) for difference in compare(expected, actual, recording().methods)] == []


async def test_a_second_answer_is_the_same() -> None:
    """Answers that are kept do not change by being given."""
    place = await world()
    dispatcher = dispatcher_of(place)
    probes = [probe for probe in recording().probes if probe.method.startswith("Describe")]
    first = [await answer(dispatcher, probe) for probe in probes]
    assert [await answer(dispatcher, probe) for probe in probes] == first


async def test_a_kept_answer_goes_when_a_table_changes() -> None:
    place = await world()
    dispatcher = dispatcher_of(place)
    [probe] = [
        probe for probe in recording().probes if probe.name == "DescribeCollection default/all_types by name"
    ]
    before = await answer(dispatcher, probe)
    assert before["reply"]["aliases"] == ["everything", "everything_again"]
    key = "by-dev/meta/root-coord/database/aliases/1/everything"
    place.etcd.delete_now(key)
    place.fold.load(await place.etcd.range("", "\x7f"))
    assert (await answer(dispatcher, probe))["reply"]["aliases"] == ["everything_again"]


def test_the_recording_covers_every_read_rpc() -> None:
    handled = {method.name for method in SERVICE.methods}
    assert set(METHODS) <= handled
    assert len(METHODS) >= 24
