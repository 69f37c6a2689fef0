"""What changed, what of it takes effect at once, and a watcher that survives broken sources."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordd.config import Change, ConfigWatcher, LoadedConfig, Settings, apply_live, diff
from coordd.errors import CoorddError
from tests.unit.config.support import Directory

ROUND_S = 0.01
DEADLINE_S = 5.0


async def eventually(condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < deadline, "did not happen in time"
        await asyncio.sleep(ROUND_S / 2)


class Changes:
    """Records what a watcher reports."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []
        self.settings: Settings | None = None

    def __call__(self, settings: Settings, changes: tuple[Change, ...]) -> None:
        self.settings = settings
        self.seen.extend((change.key, change.new) for change in changes)


class Etcd:
    """Settings in etcd that can be changed and taken away."""

    def __init__(self, **values: str) -> None:
        self.values = {key.replace("_", "/"): value for key, value in values.items()}
        self.failure: Exception | None = None
        self.reads = 0

    async def __call__(self) -> dict[str, str]:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return dict(self.values)


@asynccontextmanager
async def watching(
    loaded: LoadedConfig, changes: Changes, etcd: Etcd | None = None, *, settle_s: float = ROUND_S
) -> AsyncIterator[ConfigWatcher]:
    watcher = ConfigWatcher(
        loaded, changes, reader=etcd, file_interval_s=ROUND_S, etcd_interval_s=ROUND_S, settle_s=settle_s
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.run(), name="watcher")
        try:
            yield watcher
        finally:
            assert not task.done()
            task.cancel()


def errors(logs: list[dict[str, object]]) -> list[dict[str, object]]:
    return [line for line in logs if line["log_level"] == "error"]


def test_diff_names_every_setting_that_differs(directory: Directory) -> None:
    old = directory.load("log: {level: info}\nrootCoord: {port: 1}")
    new = directory.load("log: {level: debug}\nrootCoord: {port: 2}\nqueryNode: {port: 5}")
    changes = diff(old.settings, new)
    assert [(change.key, change.old, change.new, change.setting.live) for change in changes] == [
        ("rootCoord.port", 1, 2, False),
        ("log.level", "info", "debug", True),
    ]
    assert str(changes[1]) == f'log.level: "info" -> "debug" ({directory.configs}/milvus.yaml:1)'
    assert diff(new.settings, new) == ()


def test_only_live_settings_are_applied(directory: Directory) -> None:
    old = directory.load("")
    new = directory.load("log: {level: debug}\nrootCoord: {port: 2, maxPartitionNum: 9}")
    applied = apply_live(old.settings, diff(old.settings, new))
    assert applied.log.level == "debug"
    assert applied.root_coord.max_partition_num == 9
    assert applied.root_coord.port == 53100
    assert old.settings.log.level == "info"


def test_a_changed_secret_is_not_shown(directory: Directory) -> None:
    old = directory.load("etcd: {auth: {password: one}}")
    (change,) = diff(old.settings, directory.load("etcd: {auth: {password: two}}"))
    assert str(change).startswith('etcd.auth.password: "******" -> "******"')


async def test_a_changed_file_is_noticed(directory: Directory) -> None:
    loaded, changes = directory.load("log: {level: info}"), Changes()
    async with watching(loaded, changes) as watcher:
        directory.write("log: {level: debug}")
        await eventually(lambda: changes.seen == [("log.level", "debug")])
        assert watcher.settings.log.level == "debug"
        assert changes.settings == watcher.settings
        directory.write("log: {level: error}", "user.yaml")
        await eventually(lambda: changes.seen[1:] == [("log.level", "error")])
        (directory.configs / "user.yaml").unlink()
        await eventually(lambda: changes.seen[2:] == [("log.level", "debug")])


async def test_a_half_written_file_is_not_read(directory: Directory) -> None:
    loaded, changes, etcd = directory.load("log: {level: debug}"), Changes(), Etcd()
    async with watching(loaded, changes, etcd, settle_s=0.5) as watcher:
        directory.write("")
        rounds = etcd.reads
        await eventually(lambda: etcd.reads > rounds + 10)
        directory.write("log: {level: debug}\nrootCoord: {maxPartitionNum: 7}")
        await eventually(lambda: watcher.settings.root_coord.max_partition_num == 7)
    assert changes.seen == [("rootCoord.maxPartitionNum", 7)]


async def test_a_swapped_directory_is_noticed(directory: Directory, tmp_path: Path) -> None:
    """Kubernetes replaces a ConfigMap by renaming a symlink; size and even times may be the same."""
    for name, level in [("one", "info"), ("two", "warn")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "milvus.yaml").write_text(f"log: {{level: {level}}}\n")
    directory.configs.symlink_to("one")
    loaded, changes = directory.load(), Changes()
    async with watching(loaded, changes):
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(directory.configs)
        await eventually(lambda: changes.seen == [("log.level", "warn")])


async def test_a_broken_file_keeps_the_last_good_settings_and_is_logged_once(directory: Directory) -> None:
    loaded, changes, etcd = directory.load("log: {level: warn}"), Changes(), Etcd()
    with capture_logs() as logs:
        async with watching(loaded, changes, etcd) as watcher:
            directory.write("log: {level: [\n")
            await eventually(lambda: bool(errors(logs)))
            rounds = etcd.reads
            await eventually(lambda: etcd.reads > rounds + 10)
            assert len(errors(logs)) == 1
            assert watcher.settings == loaded.settings
            directory.write("log: {level: loud}")
            await eventually(lambda: len(errors(logs)) == 2)
            directory.write("log: {level: error}")
            await eventually(lambda: changes.seen == [("log.level", "error")])
            await eventually(lambda: logs[-1]["event"] == "configuration can be refreshed again")
    assert "milvus.yaml:2: is not valid YAML" in str(errors(logs)[0]["error"])
    assert '"loud"' in str(errors(logs)[1]["error"])


async def test_a_value_in_etcd_comes_and_goes(directory: Directory) -> None:
    loaded, changes, etcd = directory.load("log: {level: warn}"), Changes(), Etcd()
    async with watching(loaded, changes, etcd):
        etcd.values = {"log/level": "debug"}
        await eventually(lambda: changes.seen == [("log.level", "debug")])
        directory.write("log: {level: error}")  # etcd still wins
        rounds = etcd.reads
        await eventually(lambda: etcd.reads > rounds + 10)
        assert changes.seen == [("log.level", "debug")]
        etcd.values = {}
        await eventually(lambda: changes.seen[1:] == [("log.level", "error")])


@pytest.mark.parametrize(
    "failure", [CoorddError("etcd is gone"), TimeoutError(), ConnectionRefusedError("no")]
)
async def test_an_unreachable_etcd_keeps_what_was_read(directory: Directory, failure: Exception) -> None:
    loaded, changes, etcd = directory.load(""), Changes(), Etcd(log_level="debug")
    with capture_logs() as logs:
        async with watching(loaded, changes, etcd) as watcher:
            await eventually(lambda: watcher.settings.log.level == "debug")
            etcd.failure = failure
            rounds = etcd.reads
            await eventually(lambda: etcd.reads > rounds + 10)
            assert watcher.settings.log.level == "debug"
            assert len(errors(logs)) == 1
            etcd.failure = None
            await eventually(lambda: logs[-1]["event"] == "configuration can be refreshed again")
            etcd.failure = failure
            await eventually(lambda: len(errors(logs)) == 2)
            etcd.failure, etcd.values = None, {"log/level": "warn"}
            await eventually(lambda: watcher.settings.log.level == "warn")


async def test_changes_of_both_sources_at_once_are_all_kept(directory: Directory) -> None:
    loaded, changes, etcd = directory.load(""), Changes(), Etcd()
    async with watching(loaded, changes, etcd) as watcher:
        for number in range(1, 21):
            directory.write(f"rootCoord: {{maxPartitionNum: {number}}}")
            etcd.values = {"rootCoord/minSegmentSizeToEnableIndex": str(number)}
            await eventually(lambda n=number: watcher.settings.root_coord.max_partition_num == n)
            await eventually(
                lambda n=number: watcher.settings.root_coord.min_segment_size_to_enable_index == n
            )
            assert watcher.loaded.items["rootcoordmaxpartitionnum"] == str(number)
            assert watcher.loaded.items["rootcoordminsegmentsizetoenableindex"] == str(number)


async def test_a_wrong_value_in_etcd_changes_nothing(directory: Directory) -> None:
    loaded, changes, etcd = directory.load(""), Changes(), Etcd(log_level="loud")
    with capture_logs() as logs:
        async with watching(loaded, changes, etcd) as watcher:
            await eventually(lambda: etcd.reads > 5)
            assert watcher.settings == loaded.settings
    assert len(errors(logs)) == 1
    assert "etcd log/level" in str(errors(logs)[0]["error"])


async def test_what_needs_a_restart_is_said_once_and_not_applied(directory: Directory) -> None:
    loaded, changes = directory.load(""), Changes()
    with capture_logs() as logs:
        async with watching(loaded, changes) as watcher:
            directory.write("rootCoord: {port: 5}\nlog: {level: debug}\nminio: {address: new}")
            await eventually(lambda: watcher.settings.log.level == "debug")
            assert watcher.settings.root_coord.port == 53100
            assert watcher.loaded.settings == watcher.settings
            assert watcher.loaded.items["minioaddress"] == "new"
            directory.write("rootCoord: {port: 5}\nlog: {level: warn}")
            await eventually(lambda: watcher.settings.log.level == "warn")
    assert len(waiting(logs)) == 1
    assert changes.seen == [("log.level", "debug"), ("log.level", "warn")]


async def test_a_changed_key_of_a_group_waits_for_a_restart_and_is_told_without_secrets(
    directory: Directory,
) -> None:
    start = "kafka: {producer: {linger.ms: 1, client.id: x, ssl.key.password: hunter2}}"
    loaded, etcd = directory.load(start), Etcd()
    with capture_logs() as logs:
        async with watching(loaded, Changes(), etcd) as watcher:
            directory.write(
                "kafka: {producer: {linger.ms: 2, ssl.key.password: hunter3, ssl.ca.location: /c}}"
            )
            await eventually(lambda: len(waiting(logs)) == 4)
            etcd.values = {"kafka/producer/linger.ms": "1"}  # back to what is in force
            await eventually(lambda: watcher.loaded.items.get("kafkaproducerlingerms") == "1")
            etcd.values = {"kafka/producer/linger.ms": "3"}
            await eventually(lambda: len(waiting(logs)) == 5)
            in_force = watcher.loaded.settings.kafka.producer
            assert in_force == loaded.settings.kafka.producer
    file = f"({directory.configs}/milvus.yaml:1)"
    assert waiting(logs) == [
        'kafka.producer.client.id: "x" -> "" (default)',
        f'kafka.producer.linger.ms: "1" -> "2" {file}',
        f'kafka.producer.ssl.ca.location: "" -> "/c" {file}',
        f'kafka.producer.ssl.key.password: "******" -> "******" {file}',
        'kafka.producer.linger.ms: "1" -> "3" (etcd kafka/producer/linger.ms)',
    ]


def waiting(logs: list[dict[str, object]]) -> list[object]:
    """What is said to wait for the next start."""
    return [line["change"] for line in logs if "next start" in str(line["event"])]
