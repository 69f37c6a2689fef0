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
from coordd.rootcoord.oracle import Oracle
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from tests.lab.compare import Difference, compare
from tests.unit.rootcoord.recorded import World, replies, world
from tests.unit.rootcoord.term import start_oracle

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
METHODS = sorted({method for method, _, _ in replies().values()})


def lab_config(tmp_path: Path) -> LoadedConfig:
    """The settings the recorded process had, taken from its own list of them."""
    _, _, reply = replies()["ShowConfigurations ''"]
    document: dict[str, Any] = {}
    for item in reply["configuations"]:
        *path, last = item["key"].split(".")
        section = document
        for name in path:
            section = section.setdefault(name, {})
        if path:
            section[last] = item.get("value", "")
    port = next(item["value"] for item in reply["configuations"] if item["key"] == "commonmetricsport")
    (tmp_path / "milvus.yaml").write_text(yaml.safe_dump(document))
    return load_config(tmp_path, env={"METRICS_PORT": port})


async def answers(place: World, method: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Recorded replies, ours, and the method per probe, for all probes of one method."""
    table = DispatchTable()
    table.add_service(SERVICE, place.handlers)
    dispatcher = Dispatcher(table, place.gate, cluster="by-dev")
    expected, actual, methods = {}, {}, {}
    for name, (of_method, request, reply) in replies().items():
        if of_method != method:
            continue
        path = f"/{SERVICE.full_name}/{method}"
        entry = table.get(path)
        assert entry is not None
        entry.is_async = True
        body = json_format.ParseDict(request, entry.request_type()).SerializeToString()
        raw = await dispatcher.dispatch(path, body, Call(method=path, metadata={}))
        expected[name] = {"reply": reply}
        message = entry.response_type.FromString(raw)
        actual[name] = {"reply": json_format.MessageToDict(message, preserving_proto_field_name=True)}
        methods[name] = method
    return expected, actual, methods


@pytest.mark.parametrize("method", METHODS)
async def test_answers_are_milvus_own(method: str, tmp_path: Path) -> None:
    place = await world(config=lab_config(tmp_path))
    async with start_oracle(place):
        expected, actual, methods = await answers(place, method)
    assert expected
    differences: list[Difference] = compare(expected, actual, methods)
    assert [str(difference) for difference in differences] == []


def test_the_recording_covers_every_read_rpc() -> None:
    handled = {
        method.name for method in SERVICE.methods if method.name in METHODS
    }
    assert handled == set(METHODS)
    assert len(METHODS) >= 24
    assert isinstance(Oracle, type)
