"""docker-compose.yml: valid by the Compose Specification, and its variables mean what they are there for."""

import re
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from coordd.config import load_config
from coordd.config.keys import normalise_env
from coordd.config.schema import READ_PATHS
from coordd.etcd.version import version_warnings
from tests.packaging.files import ROOT, compose, coordinators

ROLES = ("rootcoord", "datacoord", "querycoord")


def validated(document: dict[str, Any]) -> compose_spec.PyCompose:
    """Strict: unknown keys, wrong types, durations, conditions and restart policies are errors.

    Merge keys have been resolved, as every implementation does before it validates.
    """
    return compose_spec.PyCompose.from_yaml(yaml.safe_dump(document))


def test_it_is_valid_by_the_compose_specification() -> None:
    parsed = validated(compose())
    assert set(parsed.service_names()) == {"etcd", *ROLES, *(f"{role}-1" for role in ROLES)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("restrat", "always"),
        ("depends_on", {"etcd": {"condition": "service_helthy"}}),
        ("healthcheck", {"test": ["CMD", "healthcheck"], "interval": "soon"}),
        ("restart", "sometimes"),
    ],
)
def test_the_validation_finds_mistakes(key: str, value: object) -> None:
    document = compose()
    document["services"]["rootcoord"][key] = value
    with pytest.raises(ValueError, match=rf"services\.rootcoord.*{key}"):
        validated(document)


def test_environment_values_are_text() -> None:
    # Compose refuses a bare `true`, and reads 1e3 or 010 as a number.
    for name, service in coordinators().items():
        for variable, value in service["environment"].items():
            assert isinstance(value, str), f"{name}: {variable} is not quoted"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_a_pair_of_equals(role: str) -> None:
    first, second = coordinators()[role], coordinators()[f"{role}-1"]
    assert first["command"] == second["command"] == ["milvus", "run", role]
    same = {key: value for key, value in first["environment"].items() if not key.endswith("_ADDRESS")}
    assert same == {
        key: value for key, value in second["environment"].items() if not key.endswith("_ADDRESS")
    }
    assert {**first, "environment": None} == {**second, "environment": None}


@pytest.mark.parametrize("service", list(coordinators()))
def test_its_variables_give_the_settings_they_are_there_for(service: str, tmp_path: Path) -> None:
    role = service.partition("-")[0]
    environment = coordinators()[service]["environment"]
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "milvus.yaml").write_bytes((ROOT / "config" / "milvus.yaml").read_bytes())

    loaded = load_config(env=environment, cwd=tmp_path)

    mine = loaded.settings.coordinator(role)
    assert loaded.settings.etcd.endpoints == ("etcd:2379",)
    assert mine.enable_active_standby is True
    address = environment[f"{role.removesuffix('coord').upper()}_COORD_ADDRESS"]
    assert f"{mine.ip}:{mine.port}" == address
    assert mine.ip == service
    assert loaded.warnings == ()


def test_every_variable_is_one_that_coordd_reads() -> None:
    for service in coordinators().values():
        for variable in service["environment"]:
            assert normalise_env(variable) in READ_PATHS, variable


def test_etcd_is_pinned_to_a_version_without_known_data_loss() -> None:
    image = compose()["services"]["etcd"]["image"]
    pinned = re.fullmatch(r"quay\.io/coreos/etcd:v(\d+\.\d+\.\d+)", image)
    assert pinned, f"{image} is not pinned to a release"
    assert version_warnings(pinned[1]) == []


def test_etcd_compacts_its_history_as_operators_are_told() -> None:
    documented = re.findall(r"--auto-compaction-[\w=]+", (ROOT / "docs" / "operations.md").read_text("utf-8"))
    assert len(documented) == 2
    assert set(documented) <= set(compose()["services"]["etcd"]["command"])


def test_a_coordinator_waits_for_etcd_and_comes_back_after_a_crash() -> None:
    services = compose()["services"]
    assert services["etcd"]["healthcheck"]["test"][:2] == ["CMD", "etcdctl"]
    for service in coordinators().values():
        assert service["depends_on"] == {"etcd": {"condition": "service_healthy"}}
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"] == ["CMD", "healthcheck"]
