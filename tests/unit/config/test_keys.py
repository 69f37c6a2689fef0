"""Names of settings and masking of secrets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.config import is_secret, normalise, shown
from coordd.config.keys import MASK, normalise_env
from coordd.config.schema import READ_PATHS, SCHEMA

WORDS = st.lists(st.from_regex(r"[a-z][A-Za-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=4)


@pytest.mark.parametrize(
    "spelling",
    [
        "rootCoord.enableActiveStandby",
        "rootCoord/enableActiveStandby",
        "ROOT_COORD_ENABLE_ACTIVE_STANDBY",
        "ROOTCOORD_ENABLEACTIVESTANDBY",
        "rootcoord.enableactivestandby",
    ],
)
def test_all_spellings_of_milvus_are_one_item(spelling: str) -> None:
    assert normalise(spelling) == "rootcoordenableactivestandby"
    assert normalise_env(spelling) == "rootcoordenableactivestandby"


def test_only_a_dotted_milvus_prefix_is_dropped_from_variables() -> None:
    assert normalise_env("milvus.etcd.endpoints") == "etcdendpoints"
    assert normalise_env("MILVUS.ETCD_ENDPOINTS") == "etcdendpoints"
    assert normalise_env("MILVUS_ETCD_ENDPOINTS") == "milvusetcdendpoints"
    assert normalise("milvus.etcd.endpoints") == "milvusetcdendpoints"


@given(WORDS)
def test_a_yaml_path_an_etcd_key_and_a_variable_meet(words: list[str]) -> None:
    name = normalise(".".join(words))
    assert name == normalise("/".join(words))
    assert name == normalise_env("_".join(words).upper())
    assert name == normalise_env("_".join(re.sub(r"(?=[A-Z])", "_", word) for word in words).upper())


@given(st.text())
def test_normalising_twice_changes_nothing(name: str) -> None:
    once = normalise(name)
    assert normalise(once) == once
    assert not set(once) & set("/_.")


def test_no_two_settings_share_a_name() -> None:
    names = [name for setting in SCHEMA for name in setting.names]
    assert len(names) == len(set(names))
    assert len(READ_PATHS) == len({path for setting in SCHEMA for path in setting.paths})


@pytest.mark.parametrize(
    "key",
    [
        "etcd.auth.password",
        "ETCD_AUTH_PASSWORD",
        "minio.secretAccessKey",
        "MINIO_ACCESS_KEY_ID",
        "kafka.saslPassword",
        "pulsar.authParams",
        "common.security.defaultRootPassword",
        "mysqlpassword",
        "coordd.management.token",
        "kafka.producer.sasl.jaas.config",
    ],
)
def test_secrets_are_masked(key: str) -> None:
    assert is_secret(key)
    assert shown(key, "hunter2") == MASK
    assert shown(key, "") == ""


@pytest.mark.parametrize(
    "key", ["etcd.ssl.tlsKey", "rootCoord.minSegmentSizeToEnableIndex", "etcd.auth.userName", "etcd.rootPath"]
)
def test_other_values_are_shown(key: str) -> None:
    assert shown(key, "value") == "value"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("token:hunter2", f"token:{MASK}"),
        ("username:u,password:hunter2,x", f"username:u,password:{MASK}"),
        ("issuerUrl:i,privateKey:data:application/json;base64,hunter2", f"issuerUrl:i,privateKey:{MASK}"),
        ("token", "token"),
    ],
)
def test_a_login_under_another_key_is_masked(value: str, told: str) -> None:
    assert shown("pulsar.authPlugin", value) == told


def test_the_user_part_of_an_address_is_masked() -> None:
    assert shown("etcd.endpoints", "http://root:pw@a:2379,b:2379") == f"http://{MASK}@a:2379,b:2379"
