"""Which settings ShowConfigurations lists, and under which names: pure.

Milvus keeps every item under two names, dotted (`etcd.endpoints`) and normalised (`etcdendpoints`), and lists
the names that contain the pattern and start with the role's own section or a global one. Global prefixes
carry no dot, so of those both names pass; of `rootcoord.` only the dotted one. Only what a source sets is
listed, never a built-in default.

Source of truth: Milvus 2.3.5 pkg/util/paramtable/component_param.go (GetComponentConfigurations), pkg/config;
recorded replies.
"""

from collections.abc import Iterable, Mapping

GLOBAL_PREFIXES = (
    "metastore",
    "localstorage",
    "etcd",
    "tikv",
    "minio",
    "pulsar",
    "kafka",
    "rocksmq",
    "log",
    "grpc",
    "common",
    "quotaandlimits",
)
METRICS_PORT = "commonmetricsport"
"""Milvus writes the port of its metrics server under this name at start."""


def listed(
    items: Mapping[str, str],
    spellings: Mapping[str, Iterable[str]],
    *,
    role: str,
    pattern: str,
    metrics_port: int,
) -> dict[str, str]:
    """Name → value, sorted by name.

    `items`: normalised name → raw text; `spellings`: for each the names that the sources have for it, those
    of files in lower case.
    """
    wanted = pattern.lower()
    prefixes = (f"{role}.", *GLOBAL_PREFIXES)
    named = {METRICS_PORT: str(metrics_port)}
    for name, value in items.items():
        named[name] = value
        named.update((spelling, value) for spelling in spellings.get(name, ()))
    return {
        name: named[name] for name in sorted(named) if wanted in name.lower() and name.startswith(prefixes)
    }
