"""What GetMetrics tells of the machine."""

from pathlib import Path

import pytest

from coordd.rootcoord.hardware import cpu_count, read_hardware

CORES = 12


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000", CORES),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("300000", 3),
        ("90000 30000", 3),
        ("2000000 100000", 20),  # more than there are: as configured
        ("", CORES),
        ("much 100000", CORES),
        ("200000 0", 2),
    ],
)
def test_a_quota_of_cgroup_v2(tmp_path: Path, quota: str, count: int) -> None:
    assert cpu_count(written(tmp_path, {"cpu.max": quota}), "0::/", cores=CORES) == count


@pytest.mark.parametrize(
    ("quota", "period", "count"),
    [("-1", "100000", CORES), ("350000", "100000", 3), ("10000", "100000", 1), ("100000", "", 1)],
)
def test_a_quota_of_cgroup_v1(tmp_path: Path, quota: str, period: str, count: int) -> None:
    files = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}
    assert cpu_count(written(tmp_path, files), "4:cpu,cpuacct:/\n0::/", cores=CORES) == count


def test_the_quota_of_the_own_group_comes_first(tmp_path: Path) -> None:
    """As of a systemd unit. In a container that group may be the root, under its name outside."""
    new = written(tmp_path / "new", {"system.slice/coordd.service/cpu.max": "400000 100000"})
    assert cpu_count(new, "0::/system.slice/coordd.service", cores=CORES) == 4
    assert cpu_count(new, "0::/kubepods/pod7", cores=CORES) == CORES
    assert cpu_count(written(new, {"cpu.max": "600000 100000"}), "0::/kubepods/pod7", cores=CORES) == 6
    old = written(tmp_path / "old", {"cpu/docker/x/cpu.cfs_quota_us": "500000"})
    assert cpu_count(old, "9:memory:/docker/y\n4:cpu,cpuacct:/docker/x", cores=CORES) == 5
    assert cpu_count(old, "4:cpuset:/docker/x", cores=CORES) == CORES


def test_a_reading_has_the_quota(tmp_path: Path) -> None:
    groups = written(tmp_path, {"cpu.max": "100000 100000", "groups": "0::/", "memory.max": "4096"})
    reading = read_hardware(groups, groups / "groups")
    assert (reading.cpu_count, reading.memory) == (1, 4096)
    assert read_hardware(tmp_path / "none", tmp_path / "none").cpu_count >= 1
