"""What the service manager is told, and that it cannot disturb the service."""

import socket
from pathlib import Path

from coordd.management.systemd import SystemdNotifier


def test_ready_is_said_once_and_the_status_follows(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.status("rootcoord REGISTERING (server -1)", ready=False)
        notifier.status("rootcoord STANDBY (server 3)", ready=True)
        notifier.status("rootcoord STANDBY (server 3)", ready=True)
        notifier.status("rootcoord REGISTERING (server 3)", ready=False)
        notifier.stopping()
        manager.setblocking(False)
        said = [manager.recv(100).decode() for _ in range(5)]
    assert said == [
        "STATUS=rootcoord REGISTERING (server -1)",
        "READY=1",
        "STATUS=rootcoord STANDBY (server 3)",
        "STATUS=rootcoord REGISTERING (server 3)",
        "STOPPING=1",
    ]


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"coordd-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        manager.setblocking(False)
        assert manager.recv(100) == b"STOPPING=1"


def test_no_manager_and_one_that_is_gone_are_no_error(tmp_path: Path) -> None:
    SystemdNotifier({}).status("text", ready=True)
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).status("text", ready=True)
