"""etcd's protobuf messages as aetcd carries them, without the rest of aetcd.

Importing `aetcd` itself, or `aetcd.rpc`, imports grpcio and the stubs made for it, which nothing here uses.
The modules of the messages need only protobuf and, by relative imports, each other. So their folder serves
this package as a second place to look for its modules.

Attributes:
    rpc: the messages of etcd's api/etcdserverpb/rpc.proto.
    mvcc: those of api/mvccpb/kv.proto.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

_AETCD = importlib.util.find_spec("aetcd")
if _AETCD is None:
    raise ModuleNotFoundError("No module named 'aetcd'", name="aetcd")

__path__ = [*__path__, *(str(Path(place) / "rpc") for place in _AETCD.submodule_search_locations or ())]

mvcc: Any = importlib.import_module(f"{__name__}.kv_pb2")
rpc: Any = importlib.import_module(f"{__name__}.rpc_pb2")
