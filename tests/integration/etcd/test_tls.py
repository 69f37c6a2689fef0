"""TLS against a real etcd, and against a server that only speaks TLS 1.2."""

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordd.etcd import EtcdClient, errors
from coordd.etcd.settings import PlainSettings, PlainSsl
from tests.support.etcd import EtcdCluster, etcd_cluster, running_cluster
from tests.support.etcd_tls import TlsFiles, make_tls
from tests.support.tcp_proxy import tcp_proxy


@pytest.fixture(scope="module")
def tls_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member that demands a client certificate."""
    with running_cluster(tls=make_tls(tmp_path_factory.mktemp("tls"), verify_clients=True)) as cluster:
        yield cluster


@pytest.mark.parametrize("minimum", ["1.0", "1.1", "1.2"])
async def test_requests_watches_and_keepalives_over_tls(
    tls_cluster: EtcdCluster, root: str, minimum: str
) -> None:
    async with EtcdClient(tls_cluster.settings(tls_min_version=minimum)) as client:
        revision = await client.put(f"{root}k", b"v")
        async with contextlib.aclosing(client.watch(f"{root}k", None, from_revision=revision)) as watch:
            assert (await anext(watch)).revision == revision
        lease = await client.grant(30)
        async with contextlib.aclosing(client.keep_alive(lease.id, 30)) as acks:
            assert (await anext(acks)).ttl_s == 30
        assert (await client.status())[0].error is None


async def test_https_endpoints_are_the_same(tls_cluster: EtcdCluster, root: str) -> None:
    endpoints = [f"https://{endpoint}" for endpoint in tls_cluster.endpoints]
    async with EtcdClient(tls_cluster.settings(endpoints=endpoints)) as client:
        await client.put(f"{root}k", b"v")


async def test_a_minimum_of_1_3(etcd_server: EtcdCluster, tmp_path: Path, root: str) -> None:
    """etcd speaks 1.3 since 3.5.8; here a proxy does it for the older one."""
    tls = make_tls(tmp_path)
    async with tcp_proxy(etcd_server.endpoints[0], tls=server_context(tls)) as proxy:
        async with EtcdClient(PlainSettings((proxy.endpoint,), ssl=client_side(tls, "1.3"))) as client:
            revision = await client.put(f"{root}k", b"v")
            async with contextlib.aclosing(client.watch(f"{root}k", None, from_revision=revision)) as watch:
                assert (await anext(watch)).revision == revision
        assert proxy.accepted == 1


async def test_etcd_itself_is_refused_when_1_3_is_asked_for_and_it_is_too_old(
    tls_cluster: EtcdCluster,
) -> None:
    await refused(
        tls_cluster, client_side(files(tls_cluster), "1.3"), r"TLS 1\.3.*etcd\.ssl\.tlsMinVersion to 1\.2"
    )


async def test_a_server_of_an_authority_that_is_not_ours(
    tls_cluster: EtcdCluster, etcd_server: EtcdCluster
) -> None:
    tls = files(tls_cluster)
    stranger = dataclasses.replace(tls, ca=tls.other_ca)
    await refused(tls_cluster, client_side(stranger, "1.2"), r"etcd\.ssl\.tlsCACert")
    async with tcp_proxy(etcd_server.endpoints[0], tls=server_context(tls)) as proxy:
        await refused(proxy.endpoint, client_side(stranger, "1.3"), r"etcd\.ssl\.tlsCACert")


async def test_a_client_certificate_that_is_missing(
    tls_cluster: EtcdCluster, etcd_server: EtcdCluster
) -> None:
    tls = files(tls_cluster)
    await refused(tls_cluster, client_side(tls, "1.2", certificate=False), r"etcd\.ssl\.tlsCert")
    with handshakes(server_context(tls)) as (endpoint, _):
        await refused(endpoint, client_side(tls, "1.3", certificate=False), r"etcd\.ssl\.tlsCert")


async def test_a_file_that_is_missing(tls_cluster: EtcdCluster, tmp_path: Path) -> None:
    ssl_settings = PlainSsl(enabled=True, tls_ca_cert=tmp_path / "none.pem", tls_min_version="1.2")
    await refused(tls_cluster, ssl_settings, r"etcd\.ssl\.tlsCACert")


async def test_no_client_certificate_where_none_is_asked_for(tmp_path: Path, root: str) -> None:
    async with etcd_cluster(tls=make_tls(tmp_path)) as cluster:
        client = EtcdClient(cluster.settings(client_cert=False))
        async with client:
            await client.put(f"{root}k", b"v")


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
async def test_a_plain_server_asked_for_tls(etcd_server: EtcdCluster, tmp_path: Path, minimum: str) -> None:
    settings = PlainSettings(etcd_server.endpoints, ssl=client_side(make_tls(tmp_path), minimum))
    async with EtcdClient(settings) as client:
        with pytest.raises(errors.EtcdError, match=r"etcd\.ssl\.enabled"):
            await client.get("k", timeout_s=0.6)


async def test_a_server_that_speaks_only_1_2_is_refused_when_1_3_is_asked_for(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    context = server_context(tls)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshakes(context) as (endpoint, spoken):
        await refused(endpoint, client_side(tls, "1.3"), r"TLS 1\.3.*etcd\.ssl\.tlsMinVersion")
        assert spoken == []
        settings = PlainSettings(endpoints=(endpoint,), ssl=client_side(tls, "1.2"))
        async with EtcdClient(settings) as client:
            with pytest.raises(errors.Unavailable):
                await client.get("k", timeout_s=0.6)
        assert set(spoken) == {"TLSv1.2"}


async def test_an_endpoint_that_offers_no_http2(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.server_cert, tls.server_key)
    with handshakes(context) as (endpoint, _):
        async with EtcdClient(PlainSettings((endpoint,), ssl=client_side(tls, "1.2"))) as client:
            with pytest.raises(errors.Unavailable, match="a proxy in front of it that speaks HTTP/1"):
                await client.get("k", timeout_s=0.6)


async def test_an_endpoint_that_fails_tls_is_passed_over(
    tls_cluster: EtcdCluster, etcd_server: EtcdCluster, root: str
) -> None:
    endpoints = [*etcd_server.endpoints, *tls_cluster.endpoints]
    async with EtcdClient(tls_cluster.settings(endpoints=endpoints)) as client:
        await client.put(f"{root}k", b"v")
        first, second = await client.status()
    assert first.error is not None
    assert "TLS" in first.error
    assert second.error is None


async def refused(server: EtcdCluster | str, ssl_settings: PlainSsl, match: str) -> None:
    endpoints = (server,) if isinstance(server, str) else server.endpoints
    started = time.monotonic()
    async with EtcdClient(PlainSettings(endpoints=endpoints, ssl=ssl_settings)) as client:
        with pytest.raises(errors.TlsError, match=match):
            await client.get("k")
    assert time.monotonic() - started < 3.0


def client_side(tls: TlsFiles, minimum: str, *, certificate: bool = True) -> PlainSsl:
    return PlainSsl(
        enabled=True,
        tls_ca_cert=tls.ca,
        tls_cert=tls.client_cert if certificate else None,
        tls_key=tls.client_key if certificate else None,
        tls_min_version=minimum,
    )


def server_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.server_cert, tls.server_key)
    context.set_alpn_protocols(["h2"])
    return context


def files(cluster: EtcdCluster) -> TlsFiles:
    assert cluster.tls is not None
    return cluster.tls


@contextlib.contextmanager
def handshakes(context: ssl.SSLContext) -> Iterator[tuple[str, list[str | None]]]:
    """A server that only does handshakes, with proper alerts, and the versions of those that succeeded."""
    spoken: list[str | None] = []

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            plain.settimeout(1.0)  # a client may give a connection up without a word
            with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secure:
                spoken.append(secure.version())
                secure.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", spoken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
