"""Files shaped like those of Milvus 2.2.3, 2.3.5 and 2.5 are read as they are."""

from pathlib import Path

import pytest

from coordd.config import LoadedConfig, Settings, load_config
from coordd.config.check import check_file
from coordd.config.refresh import diff
from coordd.config.unread import milvus_keys

FILES = Path(__file__).parent / "files"


def load(version: str) -> LoadedConfig:
    return load_config(FILES / f"milvus-{version}.yaml", {}, FILES)


@pytest.mark.parametrize("version", ["2.2.3", "2.3.5", "2.5"])
def test_nothing_in_them_is_wrong_or_unknown(version: str) -> None:
    loaded = load(version)
    assert loaded.unknown_keys == ()
    assert loaded.warnings == ()
    assert len(loaded.unread_keys) > 50
    report = check_file(loaded.paths[0])
    assert (report.exit_code, report.errors, report.warnings) == (0, (), ())


def test_the_shipped_values_of_2_3_5_are_our_defaults() -> None:
    changed = {change.key for change in diff(Settings(), load("2.3.5"))}
    # The paths are placeholders, of no effect while etcd.ssl.enabled is false. A Pulsar address by default
    # would choose Pulsar in every cluster that sets none; in Milvus' code it is blank, too.
    assert changed == {"etcd.ssl.tlsCert", "etcd.ssl.tlsKey", "etcd.ssl.tlsCACert", "pulsar.address"}


def test_2_2_3() -> None:
    settings = load("2.2.3").settings
    assert settings.etcd.endpoints == ("localhost:2379",)  # a YAML list there
    assert settings.common.session_ttl_s == 60
    assert settings.common.cluster == "by-dev"  # below common. there
    assert settings.root_coord.dml_channel_num == 256
    assert settings.root_coord.ip is None  # `address: localhost` says nothing
    assert settings.root_coord.client_max_recv_size == 104_857_600  # from grpc., roles have none there
    assert settings.log.level == "debug"


def test_2_5() -> None:
    settings = load("2.5").settings
    assert settings.common.session_ttl_s == 30
    assert settings.common.cluster == "by-dev"  # below msgChannel. there
    assert settings.grpc.graceful_stop_timeout_s == 3
    assert settings.root_coord.server_max_recv_size == 268_435_456
    assert settings.root_coord.max_partition_num == 1024
    assert settings.common.security.default_root_password.get_secret_value() == "Milvus"
    assert not settings.etcd.auth.enabled


def test_overlays_of_helm_on_top(tmp_path: Path) -> None:
    (tmp_path / "milvus.yaml").write_bytes((FILES / "milvus-2.5.yaml").read_bytes())
    (tmp_path / "default.yaml").write_text(
        "etcd:\n  endpoints:\n    - e-0:2379\n    - e-1:2379\n  rootPath: mine\n"
    )
    (tmp_path / "user.yaml").write_text("rootCoord: {activeStandby: {enabled: true}}\n")
    settings = load_config(tmp_path, {"ETCD_ENDPOINTS": "e-2:2379"}, tmp_path).settings
    assert settings.etcd.endpoints == ("e-2:2379",)
    assert settings.etcd.root_path == "mine"
    assert settings.root_coord.enable_active_standby


def test_the_list_of_milvus_keys_is_sane() -> None:
    keys = milvus_keys()
    assert keys["commonsimdtype"] == "common.simdType"
    assert keys["datacoordsegmentmaxsize"] == "dataCoord.segment.maxSize"
    assert len(set(keys)) > 300
