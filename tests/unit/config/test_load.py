"""Sources, their order, and settings that can be written in several ways."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.config import Settings, Source, load_config, with_etcd
from coordd.config.coordinators import host_of_address, split_address
from coordd.config.load import ETCD_READ_TIMEOUT_S
from coordd.config.schema import SCHEMA, Kind, Setting
from coordd.config.values import WrongValueError, parse
from tests.unit.config.support import Directory


def test_without_any_source_the_defaults_hold(directory: Directory) -> None:
    loaded = directory.load()
    assert loaded.settings == Settings()
    assert loaded.paths == ()
    assert {origin.source for origin in loaded.origins.values()} == {Source.DEFAULT}
    assert any("built-in defaults" in warning for warning in loaded.warnings)
    assert loaded.settings.root_coord.port == 53100
    assert loaded.settings.data_coord.port == 13333
    assert loaded.settings.query_coord.port == 19531
    assert loaded.settings.common.session_ttl_s == 30


def test_etcd_beats_environment_beats_files_beats_defaults(directory: Directory) -> None:
    text = "rootCoord: {port: 1, maxPartitionNum: 1, maxDatabaseNum: 1}"
    env = {"ROOT_COORD_PORT": "2", "ROOTCOORD_MAXPARTITIONNUM": "2"}
    loaded = directory.load(text, env=env, etcd={"rootCoord/port": "3"})
    root = loaded.settings.root_coord
    assert (root.port, root.max_partition_num, root.max_database_num, root.dml_channel_num) == (3, 2, 1, 16)
    assert str(loaded.origins["rootcoordport"]) == "etcd rootCoord/port"
    assert str(loaded.origins["rootcoordmaxpartitionnum"]) == "environment ROOTCOORD_MAXPARTITIONNUM"
    assert str(loaded.origins["rootcoordmaxdatabasenum"]) == f"{directory.configs}/milvus.yaml:1"
    assert str(loaded.origins["rootcoorddmlchannelnum"]) == "default"


def test_later_files_override_earlier_ones_key_by_key(directory: Directory) -> None:
    directory.write("log: {level: debug, format: json}\netcd: {rootPath: a}\ncommon: {session: {ttl: 11}}")
    directory.write("log: {level: warn}\netcd: {rootPath: b}\ncommon: {session: {ttl: 12}}", "_test.yaml")
    directory.write("etcd: {rootPath: c}\ncommon: {session: {ttl: 13}}", "default.yaml")
    directory.write("common: {session: {ttl: 14}}", "user.yaml")
    directory.write("common: {session: {ttl: 99}}", "other.yaml")
    loaded = directory.load()
    assert loaded.settings.log.format == "json"
    assert loaded.settings.log.level == "warn"
    assert loaded.settings.etcd.root_path == "c"
    assert loaded.settings.common.session_ttl_s == 14
    names = [path.name for path in loaded.paths]
    assert names == ["milvus.yaml", "_test.yaml", "default.yaml", "user.yaml"]


def test_an_overlay_alone_is_enough(directory: Directory) -> None:
    directory.write("etcd: {rootPath: mine}", "user.yaml")
    assert directory.load().settings.etcd.root_path == "mine"


def test_milvusconf_names_the_directory(directory: Directory, tmp_path: Path) -> None:
    directory.write("etcd: {rootPath: from-cwd}")
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "milvus.yaml").write_text("etcd: {rootPath: from-variable}")
    loaded = directory.load(env={"MILVUSCONF": str(other)})
    assert loaded.settings.etcd.root_path == "from-variable"
    assert directory.load(env={"MILVUSCONF": ""}).settings.etcd.root_path == "from-cwd"


def test_a_path_may_be_a_file_or_a_directory_and_beats_milvusconf(
    directory: Directory, tmp_path: Path
) -> None:
    directory.write("etcd: {rootPath: base}")
    directory.write("etcd: {rootPath: over}", "user.yaml")
    env = {"MILVUSCONF": str(tmp_path)}
    assert directory.load(path=directory.configs, env=env).settings.etcd.root_path == "over"
    single = directory.load(path=directory.configs / "milvus.yaml", env=env)
    assert single.settings.etcd.root_path == "base"
    assert single.paths == (directory.configs / "milvus.yaml",)


def test_lists_and_texts_with_commas_are_the_same(directory: Directory) -> None:
    expected = ("a:1", "b:2")
    assert directory.load("etcd: {endpoints: [a:1, b:2]}").settings.etcd.endpoints == expected
    assert directory.load("etcd: {endpoints: 'a:1, b:2,'}").settings.etcd.endpoints == expected
    assert directory.load("", env={"ETCD_ENDPOINTS": "a:1,b:2"}).settings.etcd.endpoints == expected


@pytest.mark.parametrize("name", ["root_coord", "data_coord", "query_coord"])
@pytest.mark.parametrize("spelling", ["enableActiveStandby: true", "activeStandby: {enabled: true}"])
def test_both_spellings_of_the_switch(directory: Directory, name: str, spelling: str) -> None:
    section = {"root_coord": "rootCoord", "data_coord": "dataCoord", "query_coord": "queryCoord"}[name]
    settings = directory.load(f"{section}: {{{spelling}}}").settings
    assert getattr(settings, name).enable_active_standby
    assert sum(settings.active_standby(role) for role in ("rootcoord", "datacoord", "querycoord")) == 1


@pytest.mark.parametrize(
    "variable",
    [
        "ROOT_COORD_ENABLE_ACTIVE_STANDBY",
        "ROOTCOORD_ENABLEACTIVESTANDBY",
        "ROOT_COORD_ACTIVE_STANDBY_ENABLED",
    ],
)
def test_the_switch_in_the_environment(directory: Directory, variable: str) -> None:
    loaded = directory.load("rootCoord: {enableActiveStandby: false}", env={variable: "true"})
    assert loaded.settings.root_coord.enable_active_standby
    assert loaded.origins["rootcoordenableactivestandby"].name == variable


def test_a_milvus_prefix_with_underscore_is_another_name(directory: Directory) -> None:
    loaded = directory.load("", env={"MILVUS_ROOTCOORD_ENABLEACTIVESTANDBY": "true"})
    assert not loaded.settings.root_coord.enable_active_standby


def test_a_higher_source_wins_whatever_its_spelling(directory: Directory) -> None:
    directory.write("rootCoord: {enableActiveStandby: false}")
    directory.write("rootCoord: {activeStandby: {enabled: true}}", "user.yaml")
    assert directory.load().settings.root_coord.enable_active_standby
    env = {"ROOT_COORD_ENABLE_ACTIVE_STANDBY": "false"}
    assert not directory.load(env=env).settings.root_coord.enable_active_standby
    etcd = {"rootCoord/activeStandby/enabled": "true"}
    assert directory.load(env=env, etcd=etcd).settings.root_coord.enable_active_standby


def test_two_spellings_that_agree_are_fine(directory: Directory) -> None:
    loaded = directory.load("rootCoord: {enableActiveStandby: true, activeStandby: {enabled: 'True'}}")
    assert loaded.settings.root_coord.enable_active_standby


def test_mixcoord_has_its_own_switch_for_all_roles(directory: Directory) -> None:
    settings = directory.load("rootCoord: {enableActiveStandby: true}").settings
    assert settings.mix_coord.enable_active_standby is None
    assert settings.active_standby("rootcoord", mixed=True)
    assert not settings.active_standby("datacoord", mixed=True)
    settings = directory.load("mixCoord: {enableActiveStandby: true}").settings
    assert settings.active_standby("datacoord", mixed=True)
    assert not settings.active_standby("datacoord")
    with pytest.raises(KeyError):
        settings.active_standby("proxy")


def test_channel_names_fall_back_to_their_old_place(directory: Directory) -> None:
    old = "common: {chanNamePrefix: {cluster: old}}"
    assert directory.load(old).settings.common.cluster == "old"
    both = old + "\nmsgChannel: {chanNamePrefix: {cluster: new}}"
    assert directory.load(both).settings.common.cluster == "new"
    # as in Milvus the new place wins in any source, also over a higher source that has the old one
    env = {"COMMON_CHANNAMEPREFIX_CLUSTER": "env"}
    assert directory.load(both, env=env).settings.common.cluster == "new"
    assert directory.load(old, env=env).settings.common.cluster == "env"


def test_message_sizes_of_a_role_fall_back_to_the_shared_ones(directory: Directory) -> None:
    settings = directory.load(
        "grpc: {serverMaxRecvSize: 5}\ndataCoord: {grpc: {serverMaxRecvSize: 6}}"
    ).settings
    assert settings.root_coord.server_max_recv_size == 5
    assert settings.data_coord.server_max_recv_size == 6
    assert settings.grpc.server_max_recv_size == 5


def test_a_blank_value_means_the_default(directory: Directory) -> None:
    text = (
        "rootCoord: {port: , ip: , enableActiveStandby: }\nlog: {level: , file: {rootPath: }}\nlogs:\netcd:\n"
    )
    settings = directory.load(text).settings
    assert settings.root_coord.port == 53100
    assert settings.root_coord.ip is None
    assert settings.log.level == "info"
    assert settings.log.file.root_path is None
    directory.write("rootCoord: {port: 7}")
    assert directory.load(env={"ROOT_COORD_PORT": ""}).settings.root_coord.port == 53100


def test_metrics_port(directory: Directory) -> None:
    loaded = directory.load("coordd: {management: {port: 1000}}", env={"METRICS_PORT": "9222"})
    assert loaded.settings.coordd.management.port == 9222
    assert loaded.origins["coorddmanagementport"].name == "METRICS_PORT"
    # it is a variable only: in a file the name means nothing
    assert directory.load("metricsPort: 9222").settings.coordd.management.port == 9091


@pytest.mark.parametrize(
    ("value", "advertised"),
    [
        ("rootcoord:53100", "rootcoord"),
        ("rootcoord", "rootcoord"),
        ("10.0.0.5:53100", "10.0.0.5"),
        ("[fd00::1]:53100", "[fd00::1]"),
        ("fd00::1", "[fd00::1]"),
        ("localhost:53100", None),
        ("localhost", None),
        ("0.0.0.0:53100", None),
        ("[::]:53100", None),
        ("", None),
    ],
)
def test_root_coord_address_is_what_is_advertised(
    directory: Directory, value: str, advertised: str | None
) -> None:
    assert directory.load("", env={"ROOT_COORD_ADDRESS": value}).settings.root_coord.ip == advertised
    assert directory.load(f"rootCoord: {{address: '{value}'}}").settings.root_coord.ip == advertised


def test_an_ip_beats_an_address_in_any_source(directory: Directory) -> None:
    env = {"ROOT_COORD_ADDRESS": "rootcoord:53100", "DATA_COORD_ADDRESS": "datacoord"}
    loaded = directory.load("rootCoord: {ip: 10.0.0.1}\ndataCoord: {ip: }", env=env)
    assert loaded.settings.root_coord.ip == "10.0.0.1"
    assert loaded.settings.data_coord.ip == "datacoord"
    assert loaded.origins["datacoordip"].name == "DATA_COORD_ADDRESS"


def test_a_port_in_an_address_that_is_not_listened_on_is_a_warning(directory: Directory) -> None:
    same = directory.load("", env={"ROOT_COORD_ADDRESS": "rootcoord:53100"})
    assert same.warnings == ()
    other = directory.load("", env={"ROOT_COORD_ADDRESS": "rootcoord:53101"})
    assert len(other.warnings) == 1
    assert "53101" in other.warnings[0]
    assert "53100" in other.warnings[0]


def test_ports_that_kubernetes_sets_are_not_read(directory: Directory) -> None:
    loaded = directory.load(
        "", env={"ROOTCOORD_PORT": "tcp://10.0.0.7:53100", "ETCD_PORT": "tcp://10.0.0.8:2379"}
    )
    assert loaded.settings.root_coord.port == 53100
    assert [warning for warning in loaded.warnings if "Kubernetes" in warning] == list(loaded.warnings)
    assert "ROOTCOORD_PORT" in loaded.warnings[0]


def test_a_lease_shorter_than_the_guard_is_a_warning(directory: Directory) -> None:
    assert directory.load("common: {session: {ttl: 3}}").warnings == ()
    warning = directory.load("common: {session: {ttl: 2}}").warnings[0]
    assert "common.session.ttl (2 s)" in warning
    assert "2000 ms + 500 ms" in warning


def test_where_etcd_is_should_not_be_said_in_etcd(directory: Directory) -> None:
    loaded = directory.load("", etcd={"etcd/endpoints": "b:2"})
    assert loaded.settings.etcd.endpoints == ("b:2",)
    assert "etcd.endpoints is set in etcd" in loaded.warnings[0]


def test_derived_prefixes_are_joined_as_milvus_does(directory: Directory) -> None:
    etcd = directory.load("etcd: {rootPath: /a//b/, metaSubPath: meta/, kvSubPath: /kv}").settings.etcd
    assert etcd.meta_prefix == "/a/b/meta"
    assert etcd.kv_prefix == "/a/b/kv"
    assert etcd.config_prefix == "/a/b/config"
    assert Settings().etcd.meta_prefix == "by-dev/meta"


def test_items_hold_every_raw_value_that_concerns_milvus(directory: Directory) -> None:
    text = "minio: {secretAccessKey: hunter2, address: m}\nqueryNode: {port: 21123}"
    env = {"MINIO_ADDRESS": "env-minio", "HOME": "/root", "ROOT_COORD_PORT": "2"}
    loaded = directory.load(text, env=env, etcd={"queryNode/port": "5", "quotaAndLimits/enabled": "false"})
    assert dict(loaded.items) == {
        "miniosecretaccesskey": "******",
        "minioaddress": "env-minio",
        "querynodeport": "5",
        "rootcoordport": "2",
        "quotaandlimitsenabled": "false",
    }
    assert loaded.spellings["querynodeport"] == ("querynode.port", "queryNode/port")
    assert "hunter2" not in repr(loaded)


def test_the_environment_of_the_process_is_used_by_default(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_ROOTPATH", "from-process")
    monkeypatch.delenv("MILVUSCONF", raising=False)
    monkeypatch.chdir(directory.root)
    assert load_config().settings.etcd.root_path == "from-process"


async def test_with_etcd_reads_once_and_keeps_the_rest(directory: Directory) -> None:
    loaded = directory.load("log: {level: warn}", env={"LOG_FORMAT": "json"})

    async def reader() -> dict[str, str]:
        return {"log/level": "debug"}

    over = await with_etcd(loaded, reader)
    assert (over.settings.log.level, over.settings.log.format) == ("debug", "json")
    assert over.paths == loaded.paths
    assert loaded.settings.log.level == "warn"


async def test_with_etcd_does_not_wait_for_ever(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordd.config.load.ETCD_READ_TIMEOUT_S", 0.01)
    assert ETCD_READ_TIMEOUT_S == 3.0

    async def reader() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(TimeoutError):
        await with_etcd(directory.load(""), reader)


@given(st.sampled_from([s for s in SCHEMA if s.kind is Kind.BOOL]), st.text(max_size=12))
def test_booleans_are_what_go_takes_for_one(setting: Setting, text: str) -> None:
    try:
        value = parse(setting, text)
    except WrongValueError:
        assert text.strip().lower() not in {"1", "t", "true", "0", "f", "false"}
    else:
        assert value is (text.strip().lower() in {"1", "t", "true"})


@given(st.integers())
def test_whole_numbers_survive(number: int) -> None:
    setting = next(s for s in SCHEMA if s.kind is Kind.INT)
    assert parse(setting, str(number)) == number


@given(st.text(max_size=40))
def test_any_address_splits(text: str) -> None:
    host, port = split_address(text)
    assert port is None or port >= 0
    assert isinstance(host, str)
    assert host_of_address(text) in {"", host}


def test_tls_between_processes_that_is_not_there_is_a_warning(directory: Directory) -> None:
    assert directory.load("common: {security: {internaltlsEnabled: false}}").warnings == ()
    (warning,) = directory.load("common: {security: {internaltlsEnabled: true}}").warnings
    assert "internaltlsEnabled" in warning
    assert "plain text" in warning


def test_a_topic_that_is_listed_twice(directory: Directory) -> None:
    [problem] = directory.refused("common: {preCreatedTopic: {enabled: true, names: 'a,b,a'}}")
    assert "common.preCreatedTopic.names lists a more than once" in problem
    assert f"{directory.configs}/milvus.yaml:1" in problem
    assert directory.load("common: {preCreatedTopic: {names: 'a,b,a'}}").warnings == ()
