"""The whole surface of pymilvus 2.3.5: the same script over coordd's RootCoord and over Milvus' own.

Every other process is Milvus' own in both clusters, and authorization is enabled. Each step of the script
(tests/lab/surface) says what must come of it, and the outcomes of both are the same line by line, texts of
refusals included. coordd is a pair whose active half is killed every few seconds, all the time; in between
Milvus' rootcoord goes on for a while with all that was made, and then coordd again.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest

from coordd.pb.index_coord_pb2 import SegmentIndex
from coordd.pb.proxy_pb2 import InvalidateCredCacheRequest
from tests.interop.killing import Killing, active, standby, start_standby
from tests.interop.scenario import SESSION_TTL_S, TAKEOVER_S, hand_over
from tests.lab.client import SURFACE, PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.wire import SERVICES, Stub

pytestmark = [pytest.mark.interop, pytest.mark.timeout(420)]

EXTRA = {
    "common": {"security": {"authorizationEnabled": True}},
    "indexCoord": {"segment": {"minSegmentNumRowsToEnableIndex": 10}},  # the segments here have some 50
}
SECTIONS = (
    *("databases", "shapes", "partitions", "aliases", "names", "properties", "accounts", "imports"),
    *("every_type", "levels", "changes", "dynamic", "keyed", "parts", "objects", "defaults"),
    *("elsewhere", "imported", "simple", "rights", "left_behind"),
    *("resource_groups", "goes_on", "comes_back", "drops"),
)
HANDED_OVER_BEFORE = {"resource_groups": "milvus", "comes_back": "coordd"}
LOGIN_BEFORE = {"goes_on": ("carol",), "comes_back": ("carol", "dave")}
"""Users whose passwords the proxy has to ask the new rootcoord for."""
SEGMENT_INDEXES = "by-dev/meta/segment-index/"
SECTION_S = 120.0
PRODUCTS = ("coordd", "milvus")
PAUSE_S = 3.0
"""Between a kill and the next, once there is a standby again, which takes another second or two."""
KILLS_MIN = 5
"""There are some 20; fewer on a quick machine, where the script takes less long."""

Lines = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The lines by section.

    `kills`: how often the active rootcoord was killed meanwhile. `built`: how many segments have an index
    that consists of more than a record.
    """

    lines: dict[str, Lines]
    kills: int
    built: int


class CoorddRole:
    """RootCoord of coordd: a pair whose active half is killed again and again, until it is Milvus' turn."""

    def __init__(self, lab: MilvusLab) -> None:
        self._lab = lab
        self._killing = Killing(lab, PAUSE_S)
        self.first = lab.start_coordd("rootcoord")
        self.first.wait_state("Healthy", timeout_s=TAKEOVER_S)
        start_standby(lab)

    @property
    def kills(self) -> int:
        """How many there have been."""
        return self._killing.kills

    def before(self, section: str) -> None:
        """Move on, if the section wants that."""
        if section in HANDED_OVER_BEFORE:
            self._killing.pause()
            self._hand_over(HANDED_OVER_BEFORE[section])
        if active(self._lab).kind == "coordd":
            self._killing.resume()

    def close(self) -> None:
        """No more kills."""
        self._killing.close()

    def _hand_over(self, product: str) -> None:
        last = active(self._lab)
        if last.kind == "coordd":  # its standby would be the heir
            other = standby(self._lab)
            other.process.signal(SIGTERM)
            assert other.process.wait(timeout_s=TAKEOVER_S) == 0
        hand_over(self._lab, last, product, f"{product}-after-{last.process.name}")
        if product == "coordd":
            start_standby(self._lab)


class MilvusRole:
    """RootCoord of Milvus: stays as it is."""

    kills = 0

    def __init__(self, lab: MilvusLab) -> None:
        self.first: Component = lab.start("rootcoord")

    def before(self, section: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def forget_password(lab: MilvusLab, user: str) -> None:
    """The proxy knows those of all users who came, or were made, while it was there."""
    with Stub(SERVICES["proxy"], lab.component("proxy").health_address) as stub:
        reply = stub.call("InvalidateCredentialCache", InvalidateCredCacheRequest(username=user))
    assert reply.code == 0, reply


def built_indexes(lab: MilvusLab) -> int:
    """See `Outcome`."""
    records = [SegmentIndex.FromString(value) for value in lab.etcd.dump(SEGMENT_INDEXES).values()]
    return sum(bool(record.index_file_keys) for record in records)


def script(product: str, work: Path) -> Outcome:
    """The lines of all sections over a cluster of its own."""
    lines: dict[str, Lines] = {}
    with (
        MilvusLab(work / "lab", session_ttl_s=SESSION_TTL_S, extra=EXTRA) as lab,
        PymilvusClient(lab.files, work, driver=SURFACE) as client,
        closing(CoorddRole(lab) if product == "coordd" else MilvusRole(lab)) as role,
    ):
        lab.start_cluster(rootcoord=role.first)
        sections = client.call("connect", host="127.0.0.1", port=lab.component("proxy").ports.rpc)
        assert tuple(sections) == SECTIONS
        for section in SECTIONS:
            role.before(section)
            for user in LOGIN_BEFORE.get(section, ()):
                forget_password(lab, user)
            lines[section] = client.call(section, timeout_s=SECTION_S)
        built = built_indexes(lab)
    return Outcome(lines, role.kills, built)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """By product. Both at once: most of the time they wait for Milvus' rounds."""
    places = {product: tmp_path_factory.mktemp(product) for product in PRODUCTS}
    with ThreadPoolExecutor(len(PRODUCTS)) as pool:
        running = {product: pool.submit(script, product, places[product]) for product in PRODUCTS}
    return {product: done.result() for product, done in running.items()}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_step_gives_what_it_must(outcomes: dict[str, Outcome], section: str) -> None:
    lines = outcomes["coordd"].lines[section]
    assert [line for line in lines if not line["right"]] == []
    assert lines


@pytest.mark.parametrize("section", SECTIONS)
def test_milvus_gives_the_same(outcomes: dict[str, Outcome], section: str) -> None:
    pairs = zip(outcomes["coordd"].lines[section], outcomes["milvus"].lines[section], strict=True)
    different = [
        (ours["what"], ours["got"], theirs["got"])
        for ours, theirs in pairs
        if (ours["what"], ours["got"]) != (theirs["what"], theirs["got"])
    ]
    assert different == []


def test_the_active_one_was_killed_all_the_time(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["coordd"].kills >= KILLS_MIN


@pytest.mark.parametrize("product", PRODUCTS)
def test_indexes_were_built(outcomes: dict[str, Outcome], product: str) -> None:
    """Of both shards of one collection, and of the three partitions of another."""
    assert outcomes[product].built >= 5
