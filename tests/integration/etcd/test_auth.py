"""Users, passwords and tokens against a real etcd."""

import asyncio
import contextlib
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest

from coordd.etcd import EtcdClient, Put, errors, prefix_end
from coordd.etcd.settings import PlainSettings
from tests.support.etcd import EtcdCluster, etcd_cluster, running_cluster

PASSWORD = "s3cret-pass"


@contextlib.contextmanager
def cluster_with_user() -> Iterator[EtcdCluster]:
    """Tokens that end after a second; a user `coordd` who may use the keys below `own/`."""
    with running_cluster(arguments=["--auth-token-ttl", "1", "--bcrypt-cost", "4"]) as cluster:
        cluster.ctl("user", "add", f"coordd:{PASSWORD}")
        cluster.ctl("role", "add", "own")
        cluster.ctl("role", "grant-permission", "own", "readwrite", "own/", "own0")
        cluster.ctl("user", "grant-role", "coordd", "own")
        cluster.enable_auth()
        yield cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[EtcdCluster]:
    with cluster_with_user() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: EtcdCluster) -> EtcdCluster:
    """The shared cluster, with nothing below `own/`."""
    shared.ctl("del", "own/", "own0")
    return shared


@pytest.fixture
async def user(cluster: EtcdCluster) -> AsyncIterator[EtcdClient]:
    async with EtcdClient(cluster.settings(user="coordd", password=PASSWORD)) as client:
        yield client


def logins(cluster: EtcdCluster) -> int:
    with urllib.request.urlopen(f"http://{cluster.endpoints[0]}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    pattern = r'grpc_server_started_total\{grpc_method="Authenticate".*\} (\d+)'
    return sum(int(count) for count in re.findall(pattern, text))


async def test_own_keys_are_served_and_foreign_ones_denied(user: EtcdClient) -> None:
    await user.put("own/k", b"v")
    assert len((await user.range("own/", prefix_end("own/"))).kvs) == 1
    with pytest.raises(errors.PermissionDenied, match=r"etcd\.auth\.userName"):
        await user.get("foreign/k")
    with pytest.raises(errors.PermissionDenied):
        await user.txn([], [Put("own/k", b"w"), Put("foreign/k", b"w")])
    found = await user.get("own/k")
    assert found.kv is not None
    assert found.kv.value == b"v"


async def test_a_foreign_range_cannot_be_watched(user: EtcdClient) -> None:
    async with contextlib.aclosing(user.watch("foreign/", "foreign0", from_revision=1)) as watch:
        with pytest.raises(errors.PermissionDenied):
            await anext(watch)


@pytest.mark.parametrize(("name", "password"), [("coordd", "wrong-pass"), ("nobody", PASSWORD)])
async def test_a_wrong_login_names_user_and_settings_but_no_password(
    cluster: EtcdCluster, name: str, password: str
) -> None:
    async with EtcdClient(cluster.settings(user=name, password=password)) as client:
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await client.get("own/k")
        for stream in (client.watch("own/", "own0", from_revision=1), client.keep_alive(1, 10)):
            async with contextlib.aclosing(stream) as open_stream:
                with pytest.raises(errors.AuthenticationFailed):
                    await anext(open_stream)
    text = str(caught.value)
    assert repr(name) in text
    assert "etcd.auth.userName" in text
    assert "etcd.auth.password" in text
    assert password not in text


async def test_no_login_where_one_is_needed_names_the_settings(cluster: EtcdCluster) -> None:
    async with EtcdClient(PlainSettings(cluster.endpoints)) as client:
        with pytest.raises(errors.AuthenticationFailed, match=r"etcd\.auth\.enabled"):
            await client.put("own/k", b"v")
        async with contextlib.aclosing(client.watch("own/", "own0", from_revision=1)) as watch:
            with pytest.raises((errors.AuthenticationFailed, errors.PermissionDenied)):
                await anext(watch)


async def test_an_expired_token_is_renewed_once_for_all_that_wait(
    cluster: EtcdCluster, user: EtcdClient
) -> None:
    """The watch's case is told apart from a real denial: this etcd says "permission denied" in both."""
    revision = await user.put("own/k", b"0")
    before = logins(cluster)
    await asyncio.sleep(2.3)  # a second of life, and etcd's sweep, once a second
    async with contextlib.aclosing(user.watch("own/", "own0", from_revision=revision)) as watch:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(anext(watch), name="watch")
            for number in range(20):
                group.create_task(user.put(f"own/{number}", b"v"), name=f"put-{number}")
        assert first.result().events[0].key == "own/k"
    assert logins(cluster) == before + 1
    assert len((await user.range("own/", prefix_end("own/"))).kvs) == 21


async def test_a_watch_opened_with_a_stale_token(cluster: EtcdCluster, user: EtcdClient) -> None:
    """Changing any permission makes every token handed out before "old"."""
    revision = await user.put("own/k", b"v")
    cluster.ctl("role", "grant-permission", "own", "read", "more/", "more0")
    async with contextlib.aclosing(user.watch("own/", "own0", from_revision=revision)) as watch:
        assert (await anext(watch)).revision == revision
    cluster.ctl("role", "revoke-permission", "own", "more/", "more0")
    await user.put("own/k", b"w")


async def test_a_restarted_member_knows_no_tokens_yet_all_goes_on(
    user: EtcdClient, cluster: EtcdCluster
) -> None:
    first = await user.put("own/k", b"1")
    lease = await user.grant(60)
    async with (
        contextlib.aclosing(user.watch("own/", "own0", from_revision=first)) as watch,
        contextlib.aclosing(user.keep_alive(lease.id, 60, 0.2)) as acks,
    ):
        await anext(watch)
        await anext(acks)
        cluster.members[0].kill()
        cluster.members[0].start()
        second = await user.put("own/k", b"2", timeout_s=10)
        assert (await anext(watch)).revision == second
        await anext(acks)


async def test_a_user_removed_under_us_is_told(user: EtcdClient, cluster: EtcdCluster) -> None:
    await user.put("own/k", b"1")
    async with EtcdClient(cluster.settings()) as root:
        cluster.ctl("user", "delete", "coordd")
        try:
            with pytest.raises(errors.AuthenticationFailed):
                await user.put("own/k", b"2")
        finally:
            cluster.ctl("user", "add", f"coordd:{PASSWORD}")
            cluster.ctl("user", "grant-role", "coordd", "own")
        found = await root.get("own/k")
    assert found.kv is not None
    assert found.kv.value == b"1"


async def test_authentication_switched_on_later(root: str) -> None:
    async with etcd_cluster(arguments=["--bcrypt-cost", "4"]) as cluster:
        cluster.root_password = "root-password"
        settings = cluster.settings()
        cluster.root_password = None
        async with EtcdClient(settings) as client:
            await client.put(f"{root}k", b"1")
            cluster.enable_auth("root-password")
            await client.put(f"{root}k", b"2")
