"""GetPChannelInfo: who is on a physical channel."""

import asyncio

from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.pb.root_coord_pb2 import GetPChannelInfoRequest, GetPChannelInfoResponse
from tests.unit.meta.samples import CREATING, DROPPING, collection, partition_value
from tests.unit.rootcoord.recorded import LAYOUT, World, world
from tests.unit.rootcoord.test_handlers import CALL, ask


def on_channels(collection_id: int, *channels: str, state: int = 0) -> dict[str, bytes]:
    keys = collection(collection_id, f"c{collection_id}", state=state)
    key = LAYOUT.collection(1, collection_id)
    info = CollectionInfo.FromString(keys[key])
    del info.physical_channel_names[:], info.virtual_channel_names[:]
    info.physical_channel_names.extend(channels)
    info.virtual_channel_names.extend(
        f"{name}_{collection_id}v{shard}" for shard, name in enumerate(channels)
    )
    return {**keys, key: info.SerializeToString()}


def found(answer: GetPChannelInfoResponse) -> list[tuple[int, str, list[int]]]:
    assert answer.status.code == 0
    return [
        (one.collection_id, one.vchannel, [partition.partition_id for partition in one.partitions])
        for one in answer.collections
    ]


async def asked(place: World, channel: str) -> list[tuple[int, str, list[int]]]:
    return found(await ask(place, "GetPChannelInfo", GetPChannelInfoRequest(pchannel=channel)))


async def test_all_collections_and_partitions_in_whatever_state() -> None:
    place = await world(
        {
            **on_channels(90, "dml_0", state=DROPPING),
            **on_channels(50, "dml_1", "dml_0"),
            **on_channels(70, "dml_1", state=CREATING),
            LAYOUT.partition(50, 55): partition_value(50, 55, "p", CREATING),
        }
    )
    assert await asked(place, "dml_0") == [(50, "dml_0_50v1", [51, 55]), (90, "dml_0_90v0", [91])]
    assert await asked(place, "dml_1") == [(50, "dml_1_50v0", [51, 55]), (70, "dml_1_70v0", [71])]
    assert await asked(place, "dml_2") == []
    assert await asked(place, "") == []


async def test_many_collections_do_not_hold_the_loop() -> None:
    values: dict[str, bytes] = {}
    for number in range(1000, 1450):
        values |= on_channels(number, "dml_0")
    place = await world(values)
    request = GetPChannelInfoRequest(pchannel="dml_0")
    answering = asyncio.ensure_future(place.handlers.get_p_channel_info(request, CALL))
    await asyncio.sleep(0)
    assert not answering.done()
    place.etcd.delete_now(LAYOUT.collection(1, 1449))  # dropped meanwhile
    place.fold.load(await place.etcd.range("", "\x7f"))
    assert [one for one, _, _ in found(await answering)] == list(range(1000, 1449))


async def test_a_damaged_collection_refuses_its_channels_only() -> None:
    values = {**on_channels(50, "dml_0"), **on_channels(60, "dml_1")}
    place = await world({**values, LAYOUT.partition(50, 51): b"\xff\xff"})
    answer = await ask(place, "GetPChannelInfo", GetPChannelInfoRequest(pchannel="dml_0"))
    assert LAYOUT.partition(50, 51) in answer.status.reason
    assert list(answer.collections) == []
    assert await asked(place, "dml_1") == [(60, "dml_1_60v0", [61])]
