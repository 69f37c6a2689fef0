"""Makes configurations in a temporary directory."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from coordd.config import ConfigError, LoadedConfig, load_config
from coordd.config.load import overlay


class Directory:
    """A `configs` directory and what would be read with it as the working directory's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configs = root / "configs"

    def write(self, text: str, name: str = "milvus.yaml") -> Path:
        """Write one file, replacing it; the text is dedented."""
        self.configs.mkdir(exist_ok=True)
        path = self.configs / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def load(
        self,
        text: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        etcd: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> LoadedConfig:
        """Load `text` as milvus.yaml (or what is there already), nothing of this process' environment."""
        if text is not None:
            self.write(text)
        loaded = load_config(path, env or {}, self.root)
        return loaded if etcd is None else overlay(loaded, etcd)

    def refused(
        self,
        text: str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        etcd: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The problems that `load` reports; fails if there are none."""
        with pytest.raises(ConfigError) as caught:
            self.load(text, env=env, etcd=etcd)
        return [str(problem) for problem in caught.value.problems]
