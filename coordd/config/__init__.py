"""Configuration: milvus.yaml, environment and etcd -> typed settings.

Sources, names and precedence are Milvus' (etcd > environment > files); what is read is in `Settings`. Not
here: how etcd is read (the caller passes a reader) and what is done with a changed setting.
"""

from coordd.config.errors import ConfigError, Origin, Problem, Source
from coordd.config.keys import is_secret, normalise, shown
from coordd.config.load import EtcdReader, LoadedConfig, load_config, log_findings, with_etcd
from coordd.config.refresh import Change, apply_live, diff
from coordd.config.settings import Settings
from coordd.config.watcher import ConfigWatcher

__all__ = [
    "Change",
    "ConfigError",
    "ConfigWatcher",
    "EtcdReader",
    "LoadedConfig",
    "Origin",
    "Problem",
    "Settings",
    "Source",
    "apply_live",
    "diff",
    "is_secret",
    "load_config",
    "log_findings",
    "normalise",
    "shown",
    "with_etcd",
]
