"""Which collections have ceilings of their own, by the tables, and after changes."""

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.etcd import Event
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.quota.ceilings import Kind, Range
from coordd.rootcoord.quota.properties import LOOKED_AT_ONCE, OwnCeilings
from tests.unit.meta.samples import LAYOUT, collection_value, delete, loaded, put
from tests.unit.rootcoord.quota.support import MIB, settings, whole

LIMITED = {"collection.insertRate.max.mb": "3"}


def with_properties(collection_id: int, properties: dict[str, str]) -> bytes:
    info = CollectionInfo.FromString(collection_value(collection_id, f"c{collection_id}"))
    info.properties.extend(KeyValuePair(key=key, value=value) for key, value in properties.items())
    return info.SerializeToString()


def written(collection_id: int, properties: dict[str, str], revision: int = 1) -> Event:
    return put(LAYOUT.collection(1, collection_id), with_properties(collection_id, properties), revision)


def looked(own: OwnCeilings) -> OwnCeilings:
    """After a look through the tables."""
    assert all(pause is None for pause in own.look())
    return own


def test_only_properties_that_limit_something_count() -> None:
    tables, _fold = loaded(
        {
            LAYOUT.collection(1, 50): with_properties(50, LIMITED),
            LAYOUT.collection(1, 51): with_properties(51, {"collection.ttl.seconds": "5"}),
            LAYOUT.collection(1, 52): with_properties(52, {"collection.insertRate.other": "5"}),
            LAYOUT.collection(1, 53): with_properties(53, {"x": "collection.insertRate.max.mb"}),
            LAYOUT.collection(1, 54): collection_value(54, "c54"),
        }
    )
    found = whole(looked(OwnCeilings(tables.collections)).by(settings()))
    assert set(found) == {50}
    assert found[50].rates[Kind.INSERT] == Range(3 * MIB)


def test_changes_are_followed() -> None:
    tables, fold = loaded({LAYOUT.collection(1, 50): with_properties(50, LIMITED)})
    own, same = OwnCeilings(tables.collections), settings()
    assert whole(looked(own).by(same)) is whole(looked(own).by(same))

    fold.apply_commit(2, [written(51, LIMITED, 2)])
    assert set(whole(looked(own).by(same))) == {50, 51}
    fold.apply_commit(3, [written(50, {"collection.insertRate.max.mb": "7"}, 3)])
    assert whole(looked(own).by(same))[50].rates[Kind.INSERT] == Range(7 * MIB)
    fold.apply_commit(4, [delete(LAYOUT.collection(1, 51), 4), written(50, {}, 4)])
    assert whole(looked(own).by(same)) == {}


def test_where_a_property_says_nothing_the_settings_of_the_moment_do() -> None:
    def searches(most: float) -> QuotaAndLimitsSettings:
        return settings(dql={"enabled": True, "search": {"collection_max_rate": most}})

    tables, _fold = loaded({LAYOUT.collection(1, 50): with_properties(50, LIMITED)})
    own = OwnCeilings(tables.collections)
    assert whole(looked(own).by(searches(4)))[50].rates[Kind.SEARCH] == Range(4)
    assert whole(looked(own).by(searches(5)))[50].rates[Kind.SEARCH] == Range(5)


def test_a_change_during_a_look_is_found_by_the_next() -> None:
    rows = {
        LAYOUT.collection(1, one): collection_value(one, f"c{one}")
        for one in range(100, 100 + LOOKED_AT_ONCE)
    }
    tables, fold = loaded(rows)
    own = OwnCeilings(tables.collections)
    for _pause in own.look():
        fold.apply_commit(2, [written(100, LIMITED, 2), written(50, LIMITED, 2)])
    assert whole(own.by(settings())) == {}
    assert set(whole(looked(own).by(settings()))) == {50, 100}
