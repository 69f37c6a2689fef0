"""etcd's messages come without grpcio."""

import subprocess
import sys

import pytest

_LOADED = (
    "import sys, {module};print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'aetcd')])"
)


@pytest.mark.parametrize("module", ["coordd.etcd.messages", "coordd.etcd", "bench.observer"])
def test_grpc_is_not_imported(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(module=module)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_they_go_together_with_aetcds_own() -> None:
    """Both register the same descriptors."""
    both = (
        "from coordd.etcd.messages import rpc; from aetcd import rpc as theirs;"
        "theirs.PutRequest.FromString(rpc.PutRequest(key=b'k').SerializeToString()); print(rpc.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", both], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "coordd.etcd.messages.rpc_pb2"
