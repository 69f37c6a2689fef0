"""What is refused, and what the message says about it."""

import traceback
from pathlib import Path

import pytest

from coordd.config import ConfigError, load_config
from coordd.config.schema import SCHEMA, Kind, Setting
from tests.unit.config.support import Directory


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("rootCoord", "port", "fast", 'must be a whole number from 0 to 65535, not "fast"'),
        ("rootCoord", "port", "70000", 'must be a whole number from 0 to 65535, not "70000"'),
        ("rootCoord", "port", "-1", 'from 0 to 65535, not "-1"'),
        ("rootCoord", "port", "1.5", 'must be a whole number from 0 to 65535, not "1.5"'),
        ("rootCoord", "port", "[1, 2]", 'not "1,2"'),
        ("rootCoord", "enableActiveStandby", "yes", 'must be true or false, not "yes"'),
        ("rootCoord", "ip", "0.0.0.0", 'that other processes can connect to, not "0.0.0.0"'),
        ("rootCoord", "ip", "224.0.0.1", "other processes can connect to"),
        ("rootCoord", "ip", "http://x", 'must be a text, not "http://x"'),
        ("grpc", "gracefulStopTimeout", ".inf", "must be a number from 0 to 86400"),
        ("grpc", "gracefulStopTimeout", "nan", "must be a number"),
        ("log", "level", "loud", 'must be debug, info, warn, error, panic or fatal, not "loud"'),
        ("log", "format", "xml", 'must be text or json, not "xml"'),
        ("log", "level", "!secret x", "has the unknown YAML tag !secret"),
        ("log", "level", "{a: b}", "takes a single value, not a section (.a)"),
        ("etcd", "rootPath", "''", "must not be empty"),
        ("etcd", "rootPath", "/", 'would share the root of etcd with others, not "/"'),
        ("etcd", "endpoints", "''", "must name at least one host:port"),
        ("etcd", "endpoints", "[{a: b}]", "is a list with parts that are not single values"),
        ("etcd", "ssl", "on", "is a section, it takes no value of its own"),
        ("etcd", "ssl", "!x {enabled: true}", "has the unknown YAML tag !x"),
        ("metastore", "type", "tikv", 'must be etcd, not "tikv"'),
        ("common", "session", "30", "is a section"),
        ("grpc", "serverMaxRecvSize", "512MB", "must be a whole number from 1 to 2147483647"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_key_place_and_reason(
    directory: Directory, section: str, key: str, value: str, reason: str
) -> None:
    (problem,) = directory.refused(f"{section}:\n  {key}: {value}\n")
    assert problem.startswith(f"{directory.configs}/milvus.yaml:2: {section}.{key} ")
    assert reason in problem


def test_a_wrong_variable_and_a_wrong_etcd_key_are_named(directory: Directory) -> None:
    (problem,) = directory.refused("", env={"ROOT_COORD_PORT": "x"})
    assert (
        problem
        == 'environment ROOT_COORD_PORT: ROOT_COORD_PORT must be a whole number from 0 to 65535, not "x"'
    )
    (problem,) = directory.refused("", etcd={"rootCoord/port": "x"})
    assert problem.startswith("etcd rootCoord/port: rootCoord/port must be")
    (problem,) = directory.refused("", env={"METRICS_PORT": "http"})
    assert problem.startswith("environment METRICS_PORT:")


def test_only_the_value_that_counts_is_judged(directory: Directory) -> None:
    assert directory.load("rootCoord: {port: x}", env={"ROOT_COORD_PORT": "5"}).settings.root_coord.port == 5


def test_all_wrong_places_are_named_at_once(directory: Directory) -> None:
    text = """
        rootCoord: {port: x}
        log: {level: loud}
        etcd: {requestTimeout: 0}
        common: {session: {ttl: -4}}
    """
    problems = directory.refused(text, env={"METRICS_PORT": "y"})
    assert len(problems) == 5
    assert [problem.partition(": ")[0].rpartition(":")[2] for problem in problems[1:]] == ["2", "3", "4", "5"]
    with pytest.raises(ConfigError, match="5 settings are wrong"):
        directory.load(text, env={"METRICS_PORT": "y"})


@pytest.mark.parametrize(
    "setting", [s for s in SCHEMA if s.kind is not Kind.TEXT and s.default != ()], ids=lambda s: s.path
)
def test_no_setting_takes_a_value_of_another_kind(directory: Directory, setting: Setting) -> None:
    wrong = "" if setting.kind is Kind.LIST else "sideways"
    (problem,) = directory.refused("", etcd={setting.path: wrong})
    assert setting.path in problem


def test_secrets_are_masked_in_messages(directory: Directory) -> None:
    text = "etcd: {auth: {password: [{a: hunter2}]}}"
    assert "hunter2" not in str(directory.refused(text))
    text = "etcd: {auth: {password: hunter2}}\netcd_auth: {password: hunter3}"
    (problem,) = directory.refused(text)
    assert "hunter" not in problem
    assert "******" in problem


def test_secrets_are_not_in_tracebacks(directory: Directory) -> None:
    secret = "q7" + "zq"  # in no source line, which tracebacks quote; short, for pydantic shortens long input
    directory.write(f"etcd: {{auth: {{enabled: true, password: {secret}}}}}")
    with pytest.raises(ConfigError) as caught:
        directory.load()
    shown = "".join(traceback.format_exception(caught.value))
    assert "ValidationError" in shown
    assert secret not in shown


def test_contradicting_spellings_name_both(directory: Directory) -> None:
    (problem,) = directory.refused(
        "rootCoord:\n  enableActiveStandby: true\n  activeStandby:\n    enabled: false\n"
    )
    file = f"{directory.configs}/milvus.yaml"
    assert problem == (
        f'{file}:4: rootCoord.activeStandby.enabled is "false", but rootCoord.enableActiveStandby'
        f' ({file}:2) is "true", and both mean rootCoord.enableActiveStandby: remove one of them'
    )


def test_contradicting_variables_name_both(directory: Directory) -> None:
    env = {"ROOT_COORD_ENABLE_ACTIVE_STANDBY": "true", "ROOTCOORD_ACTIVESTANDBY_ENABLED": "false"}
    (problem,) = directory.refused("", env=env)
    assert "ROOTCOORD_ACTIVESTANDBY_ENABLED" in problem
    assert "ROOT_COORD_ENABLE_ACTIVE_STANDBY" in problem
    (problem,) = directory.refused("", env={"METRICS_PORT": "1", "COORDD_MANAGEMENT_PORT": "2"})
    assert "METRICS_PORT" in problem
    assert "COORDD_MANAGEMENT_PORT" in problem


def test_the_same_key_in_two_spellings_of_one_file(directory: Directory) -> None:
    (problem,) = directory.refused("rootCoord: {port: 1}\nrootcoord: {Port: 2}\n")
    assert "rootcoord.Port" in problem
    assert "rootCoord.port" in problem


def test_malformed_and_unreadable_files(directory: Directory, tmp_path: Path) -> None:
    (problem,) = directory.refused("log:\n  level: [\n")
    assert problem.startswith(f"{directory.configs}/milvus.yaml:3: is not valid YAML")
    directory.write("")
    directory.write("a: b: c\n", "user.yaml")
    (problem,) = directory.refused()
    assert "user.yaml:1" in problem
    for env, path in [
        ({}, tmp_path / "nope.yaml"),
        ({"MILVUSCONF": "/nope"}, None),
        ({}, Path("/dev/null/x")),
    ]:
        with pytest.raises(ConfigError, match="does not exist") as caught:
            load_config(path, env, tmp_path)
        assert caught.value.unreadable


def test_a_directory_without_files_is_refused_if_it_was_named(directory: Directory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds none of milvus\.yaml"):
        directory.load(path=tmp_path)
    assert directory.load().paths == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("etcd: {auth: {enabled: true, userName: root}}", "etcd.auth.password is not set"),
        (
            "etcd: {auth: {enabled: true, password: hunter2}}",
            "etcd.auth.userName or etcd.auth.password is not set",
        ),
        (
            "etcd: {ssl: {enabled: true, tlsCert: /c.pem}}",
            "etcd.ssl.tlsCert and etcd.ssl.tlsKey must be set together",
        ),
    ],
)
def test_settings_that_do_not_go_together(directory: Directory, text: str, reason: str) -> None:
    (problem,) = directory.refused(text)
    assert problem.startswith(f"{directory.configs}/milvus.yaml:1: ")
    assert reason in problem
    assert "hunter2" not in problem
