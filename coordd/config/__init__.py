"""Configuration: milvus.yaml, environment and etcd -> typed settings."""

from coordd.config.errors import ConfigError, Origin, Problem, Source
from coordd.config.settings import Settings

__all__ = ["ConfigError", "Origin", "Problem", "Settings", "Source"]
