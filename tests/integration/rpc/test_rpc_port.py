"""Port reservations against the real network stack."""

import socket
import subprocess
import sys

import pytest

from coordd.rpc.port import ListenError, PortInUse, PortReservation

HOST = "127.0.0.1"
SETTING = "rootCoord.port"


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) != 0


@pytest.mark.parametrize("host", ["", HOST, "localhost", "::1"])
def test_a_reserved_port_refuses_connects_and_cannot_be_reserved_again(host: str) -> None:
    with PortReservation(host, 0, setting=SETTING) as reservation:
        assert reservation.port > 0
        assert refused(reservation.port)
        with pytest.raises(PortInUse, match=str(reservation.port)):
            PortReservation(host, reservation.port, setting=SETTING)
    PortReservation(host, reservation.port, setting=SETTING).release()


def test_a_reservation_of_another_process_is_seen_and_goes_with_it() -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from coordd.rpc.port import PortReservation as R\n"
            "held = R('127.0.0.1', 0, setting='x'); print(held.port, flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(PortInUse):
            PortReservation(HOST, port, setting=SETTING)
    finally:
        holder.kill()
        holder.communicate()
    PortReservation(HOST, port, setting=SETTING).release()


@pytest.mark.parametrize("host", ["", HOST])
def test_a_port_that_is_listened_on_is_in_use(host: str) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            PortReservation(host, port, setting=SETTING)
        assert SETTING in str(caught.value)
        assert str(port) in str(caught.value)


def test_connections_in_time_wait_do_not_block_a_restart() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first keeps the TIME_WAIT state
            assert client.recv(1) == b""
    PortReservation(HOST, port, setting=SETTING).release()


def test_a_reserved_port_is_not_to_be_had_by_an_ordinary_socket() -> None:
    with (
        PortReservation(HOST, 0, setting=SETTING) as reservation,
        socket.socket() as client,
        pytest.raises(OSError, match="in use"),
    ):
        client.bind((HOST, reservation.port))


def test_an_address_of_another_machine_cannot_be_reserved() -> None:
    with pytest.raises(ListenError) as caught:
        PortReservation("192.0.2.1", 0, setting=SETTING)
    assert not isinstance(caught.value, PortInUse)
    assert "192.0.2.1" in str(caught.value)


def test_a_name_that_does_not_resolve_is_a_listen_error() -> None:
    with pytest.raises(ListenError, match=r"no-such-host\.invalid"):
        PortReservation("no-such-host.invalid", 0, setting=SETTING)


def test_release_can_be_repeated() -> None:
    reservation = PortReservation(HOST, 0, setting=SETTING)
    reservation.release()
    reservation.release()
