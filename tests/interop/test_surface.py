"""The whole surface of pymilvus 2.3.5: the same script over coordd's RootCoord and over Milvus' own.

Every other process is Milvus' own in both clusters, and authorization is enabled. Each step of the script
(tests/lab/surface) says what must come of it, and the outcomes of both are the same line by line, texts of
refusals included. coordd is a pair whose active half is stopped in the middle of the script; later Milvus'
rootcoord goes on with all that was made, and then coordd again.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.interop.scenario import SESSION_TTL_S, TAKEOVER_S, hand_over
from tests.lab.client import SURFACE, PymilvusClient
from tests.lab.cluster import Component, MilvusLab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

EXTRA = {"common": {"security": {"authorizationEnabled": True}}}
SECTIONS = (
    *("databases", "shapes", "partitions", "aliases", "names", "properties", "accounts"),
    *("every_type", "levels", "changes", "dynamic", "keyed", "parts", "objects", "defaults"),
    *("elsewhere", "simple", "rights", "resource_groups", "drops"),
)
STANDBY_TAKES_OVER_BEFORE = "every_type"
HANDED_OVER_BEFORE = {"resource_groups": "milvus", "drops": "coordd"}
SECTION_S = 120.0
PRODUCTS = ("coordd", "milvus")

Lines = list[dict[str, Any]]


class CoorddRole:
    """RootCoord of coordd in a cluster: a pair, and whom it is handed over to."""

    def __init__(self, lab: MilvusLab) -> None:
        self._lab = lab
        self._first = lab.start_coordd("rootcoord")
        self._first.wait_state("Healthy", timeout_s=TAKEOVER_S)
        self._second = lab.start_coordd("rootcoord", name="coordd-second")
        self._second.wait_standby()
        self.active = self._first

    def before(self, section: str) -> None:
        """Move on, if the section wants that."""
        if section == STANDBY_TAKES_OVER_BEFORE:
            self._first.process.signal(signal.SIGTERM)
            self._second.wait_state("Healthy", timeout_s=TAKEOVER_S)
            self.active = self._second
        elif section in HANDED_OVER_BEFORE:
            assert self._first.process.wait(timeout_s=TAKEOVER_S) == 0
            product = HANDED_OVER_BEFORE[section]
            self.active = hand_over(self._lab, self.active, product, f"{product}-{section}")


class MilvusRole:
    """RootCoord of Milvus: stays as it is."""

    def __init__(self, lab: MilvusLab) -> None:
        self.active: Component = lab.start("rootcoord")

    def before(self, section: str) -> None:
        """Nothing."""


def script(product: str, work: Path) -> dict[str, Lines]:
    """The lines of all sections over a cluster of its own."""
    lines: dict[str, Lines] = {}
    with (
        MilvusLab(work / "lab", session_ttl_s=SESSION_TTL_S, extra=EXTRA) as lab,
        PymilvusClient(lab.files, work, driver=SURFACE) as client,
    ):
        role = CoorddRole(lab) if product == "coordd" else MilvusRole(lab)
        lab.start_cluster(rootcoord=role.active)
        sections = client.call("connect", host="127.0.0.1", port=lab.component("proxy").ports.rpc)
        assert tuple(sections) == SECTIONS
        for section in SECTIONS:
            role.before(section)
            lines[section] = client.call(section, timeout_s=SECTION_S)
    return lines


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Lines]]:
    """The lines by product and section. Both at once: most of the time they wait for Milvus' rounds."""
    places = {product: tmp_path_factory.mktemp(product) for product in PRODUCTS}
    with ThreadPoolExecutor(len(PRODUCTS)) as pool:
        running = {product: pool.submit(script, product, places[product]) for product in PRODUCTS}
    return {product: done.result() for product, done in running.items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_step_gives_what_it_must(outcomes: dict[str, dict[str, Lines]], section: str) -> None:
    lines = outcomes["coordd"][section]
    assert [line for line in lines if not line["right"]] == []
    assert lines


@pytest.mark.parametrize("section", SECTIONS)
def test_milvus_gives_the_same(outcomes: dict[str, dict[str, Lines]], section: str) -> None:
    different = [
        (ours["what"], ours["got"], theirs["got"])
        for ours, theirs in zip(outcomes["coordd"][section], outcomes["milvus"][section], strict=True)
        if (ours["what"], ours["got"]) != (theirs["what"], theirs["got"])
    ]
    assert different == []
