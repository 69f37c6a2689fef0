"""Lines of `config show`, the answer of ShowConfigurations, what is logged at start; secrets are masked."""

import pytest
import structlog
import yaml
from structlog.testing import capture_logs

from coordd.config import LoadedConfig, log_findings
from coordd.config.check import check_file
from coordd.config.listing import setting_lines
from coordd.config.schema import SCHEMA
from coordd.rootcoord.configurations import listed
from tests.unit.config.support import Directory

SECRETS = """
etcd: {auth: {enabled: true, userName: root, password: hunter2}, endpoints: 'http://u:hunter3@a:1'}
minio: {accessKeyID: hunter4, secretAccessKey: hunter5}
kafka: {saslUsername: hunter9, saslPassword: hunter6, brokerList: b}
common: {security: {defaultRootPassword: hunter7}}
"""


def served(loaded: LoadedConfig, role: str = "rootcoord", pattern: str = "") -> dict[str, str]:
    """What ShowConfigurations answers."""
    return listed(loaded.items, loaded.spellings, role=role, pattern=pattern, metrics_port=9091)


def test_every_setting_has_a_line_that_is_yaml(directory: Directory) -> None:
    lines = setting_lines(directory.load("log: {level: debug}"))
    assert len(lines) == len(SCHEMA)
    parsed = yaml.safe_load("\n".join(lines))
    assert set(parsed) == {setting.path for setting in SCHEMA}
    assert parsed["log.level"] == "debug"
    assert parsed["rootCoord.ip"] is None
    assert "etcd.endpoints: localhost:2379" in lines


def test_what_is_shown_can_be_read_again(directory: Directory) -> None:
    loaded = directory.load(
        "rootCoord: {ip: 10.0.0.1, enableActiveStandby: true}\ngrpc: {gracefulStopTimeout: 0.5}"
    )
    again = directory.load("\n".join(setting_lines(loaded, origin=True)).replace('"******"', "Milvus"))
    assert again.settings == loaded.settings


def test_origins_are_shown_on_demand(directory: Directory) -> None:
    loaded = directory.load("log: {level: debug}", env={"METRICS_PORT": "1"}, etcd={"rootCoord/port": "2"})
    shown = dict(line.split(" # ") for line in setting_lines(loaded, origin=True))
    by_key = {line.partition(":")[0]: origin for line, origin in shown.items()}
    assert by_key["log.level"] == f"{directory.configs}/milvus.yaml:1"
    assert by_key["coordd.management.port"] == "environment METRICS_PORT"
    assert by_key["rootCoord.port"] == "etcd rootCoord/port"
    assert by_key["log.format"] == "default"


def test_what_is_read_as_a_group_has_an_origin_for_each_member(directory: Directory) -> None:
    """Names that are alike but for dots are different settings of the library behind it."""
    loaded = directory.load(
        "kafka:\n  producer:\n    linger.ms: 1\n    ssl.ca.location: /c\n    lingerms: 2\n    client.id: x",
        env={"KAFKA_PRODUCER_LINGER_MS": "3"},
        etcd={"kafka/producer/ssl.ca.location": "/d", "kafka.Producer.client.id": ""},
    )
    lines = [line for line in setting_lines(loaded, origin=True) if line.startswith("kafka.producer")]
    assert {tuple(line.split(maxsplit=3)) for line in lines} == {
        ("kafka.producer.linger.ms:", "1", "#", f"{directory.configs}/milvus.yaml:3"),
        ("kafka.producer.ssl.ca.location:", "/d", "#", "etcd kafka/producer/ssl.ca.location"),
        ("kafka.producer.lingerms:", "2", "#", f"{directory.configs}/milvus.yaml:5"),
    }


def test_a_role_leaves_the_others_out(directory: Directory) -> None:
    lines = setting_lines(directory.load(""), role="datacoord")
    sections = {line.partition(".")[0] for line in lines}
    assert "dataCoord" in sections
    assert "etcd" in sections
    assert not sections & {"rootCoord", "queryCoord"}


def test_secrets_are_masked_everywhere(directory: Directory) -> None:
    loaded = directory.load(SECRETS, env={"ETCD_AUTH_PASSWORD": "hunter8"})
    everything = [
        *setting_lines(loaded, origin=True),
        *served(loaded).values(),
        *loaded.items.values(),
        repr(loaded),
        str(loaded.settings),
        loaded.settings.model_dump_json(),
    ]
    assert "hunter" not in "\n".join(everything).replace("hunter3", "")
    assert "hunter3" not in "\n".join(everything[:-3]), "the user part of an address"
    assert loaded.settings.etcd.auth.password.get_secret_value() == "hunter8"


@pytest.mark.parametrize(
    "text",
    [
        "pulsar: {authParams: {token:hunter2}}",
        "pulsar: {authParams: {token: hunter2, privateKey: 'data:application/json;base64,hunter3'}}",
        "pulsar: {authParams: {x:hunter2}}",
        "pulsar: {authParams:token:hunter2}",
        "pulsar: {authParams: {token:hunter2, token:hunter2}}",
        "pulsar: {authParams: [{token: hunter2}]}",
        "pulsar: {authParam: 'token:hunter2'}",
        "pulsar: {auth: 'privateKey:data:application/json;base64,hunter2'}",
        "pulsar: {authPlugin: 'token:hunter2'}",
        "etcd: {auth: {password:hunter2}}",
    ],
)
def test_secrets_in_the_wrong_place_are_masked_too(directory: Directory, text: str) -> None:
    """With a space missing after the colon, what was to be a value is a part of the key."""
    path = directory.write(text)
    report = check_file(path)
    told = [*report.errors, *report.warnings, *map(str, report.unread)]
    if not report.errors:
        loaded = directory.load()
        told += setting_lines(loaded, origin=True)
        told += map(str, served(loaded).items())
        told.append(repr(loaded))
    assert told
    assert "hunter" not in "\n".join(told)


def test_show_configurations_lists_both_names_of_what_the_role_may_show(directory: Directory) -> None:
    text = "rootCoord: {port: 1}\ndataCoord: {port: 2}\netcd: {rootPath: r}\nqueryNode: {port: 3}"
    loaded = directory.load(text, env={"LOG_LEVEL": "warn"}, etcd={"rootCoord/dmlChannelNum": "4"})
    assert served(loaded) == {
        "commonmetricsport": "9091",
        "rootcoord.port": "1",
        "etcd.rootpath": "r",
        "etcdrootpath": "r",
        "loglevel": "warn",
    }
    assert served(loaded, "rootcoord", "PORT") == {"rootcoord.port": "1", "commonmetricsport": "9091"}
    assert served(loaded, "datacoord", ".port") == {"datacoord.port": "2"}


def test_findings_are_logged_once_at_the_right_level(directory: Directory) -> None:
    loaded = directory.load("log: {lvl: x}\nrootCoord: {ImportTaskSubPath: x}\ncommon: {session: {ttl: 1}}")
    with capture_logs() as logs:
        log_findings(loaded, structlog.get_logger("coordd.config"))
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("warning", "configuration warning"),
        ("debug", "unknown configuration key"),
        ("debug", "configuration keys of Milvus that are not read"),
    ]
    assert logs[1]["key"] == "log.lvl"
    assert logs[1]["suggestion"] == "log.level"
