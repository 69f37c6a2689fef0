"""Keys that are not read: Milvus' own, and misspelt ones."""

from coordd.config.unread import unknown_sections
from tests.unit.config.support import Directory


def test_misspelt_keys_are_unknown_and_suggested(directory: Directory) -> None:
    loaded = directory.load("etcd: {endpoint: a:1}\ncoordd: {failover: {serveGard: 1}}\nlog: {lvl: x}\n")
    assert [(key.key, key.suggestion) for key in loaded.unknown_keys] == [
        ("etcd.endpoint", "etcd.endpoints"),
        ("coordd.failover.serveGard", "coordd.failover.serveGuard"),
        ("log.lvl", "log.level"),
    ]
    assert str(loaded.unknown_keys[0]) == (
        f"{directory.configs}/milvus.yaml:1: etcd.endpoint is not known; did you mean etcd.endpoints?"
    )


def test_keys_of_milvus_are_suggested_too_and_nonsense_is_not(directory: Directory) -> None:
    loaded = directory.load("dataCoord: {segment: {maxSise: 1}}\nlog: {zzzzzzzzz: 1}\n")
    assert [key.suggestion for key in loaded.unknown_keys] == ["dataCoord.segment.maxSize", None]


def test_keys_of_milvus_are_not_suspected(directory: Directory) -> None:
    loaded = directory.load("rootCoord: {ImportTaskSubPath: x}\ncommon: {DiskIndex: {MaxDegree: 5}}\n")
    assert loaded.unknown_keys == ()
    assert {key.key for key in loaded.unread_keys} == {
        "rootCoord.ImportTaskSubPath",
        "common.DiskIndex.MaxDegree",
    }


def test_other_sections_are_passed_over(directory: Directory) -> None:
    loaded = directory.load("queryNode: {nonsense: 1}\nwhatever: {x: 1}\nflat: 1\n")
    assert loaded.unknown_keys == ()
    assert loaded.unread_keys == ()
    assert [key.key for key in unknown_sections(loaded.layers)] == ["whatever", "flat"]


def test_what_is_read_is_never_called_unknown(directory: Directory) -> None:
    switch = "rootCoord: {address: a, activeStandby: {enabled: true}}\n"
    text = switch + "common: {chanNamePrefix: {cluster: c}}\netcd:\n"
    loaded = directory.load(text, etcd={"rootCoord/port": "1", "rootcoordip": "h", "x/y": "z"})
    assert loaded.unknown_keys == ()
    assert loaded.unread_keys == ()


def test_etcd_keys_are_looked_at_too(directory: Directory) -> None:
    loaded = directory.load("", etcd={"rootCoord/prot": "1", "common.simdType": "auto"})
    assert [key.key for key in loaded.unknown_keys] == ["rootCoord/prot"]
    assert loaded.unknown_keys[0].suggestion == "rootCoord.port"
    assert [key.key for key in loaded.unread_keys] == ["common.simdType"]


def test_of_variables_only_our_own_prefix_counts(directory: Directory) -> None:
    env = {"COORDD_FAILOVER_SERVEGARD": "1", "ETCD_QUOTA_BACKEND_BYTES": "1", "COMMON_X": "1"}
    loaded = directory.load("", env=env)
    assert [key.key for key in loaded.unknown_keys] == ["COORDD_FAILOVER_SERVEGARD"]
