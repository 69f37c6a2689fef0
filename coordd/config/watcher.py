"""Follows the configuration while the process runs: files and etcd are read again every five seconds.

Promises: `on_change` sees every change of a live setting that was there when a round read it, in settings
that are valid as a whole. Does not promise to see a value that came and went between two rounds. A source
that cannot be read or is wrong keeps the last good settings; that is logged once, not in every round.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from coordd.config.errors import ConfigError
from coordd.config.load import ETCD_READ_TIMEOUT_S, EtcdReader, LoadedConfig, overlay, read_files, reread
from coordd.config.refresh import Change, apply_live, diff, member_diff
from coordd.config.settings import Settings
from coordd.config.sources import Files
from coordd.errors import CoorddError
from coordd.log import get_logger

FILE_INTERVAL_S: Final = 5.0
"""How often files are looked at; as in Milvus."""

ETCD_INTERVAL_S: Final = 5.0
"""How often the settings in etcd are read; as in Milvus."""

SETTLE_S: Final = 0.1
"""A changed file is read only when it has not changed for this long, so that none is read half-written."""

OnChange = Callable[[Settings, tuple[Change, ...]], None]
_Fingerprint = tuple[tuple[str, int, int, int, int], ...]


class ConfigWatcher:
    """Two loops in one task: `async with TaskGroup() as group: group.create_task(watcher.run(), name=...)`.

    `on_change(settings, changes)` is called in the event loop with the settings now in force and the live
    settings that changed; it must be quick. An error that it raises ends `run`.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        on_change: OnChange,
        *,
        reader: EtcdReader | None = None,
        file_interval_s: float = FILE_INTERVAL_S,
        etcd_interval_s: float = ETCD_INTERVAL_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._in_force = self._in_force_of = loaded  # made of the two above, since each call may ask for it
        self._on_change = on_change
        self._reader = reader
        self._file_interval_s = file_interval_s
        self._etcd_interval_s = etcd_interval_s
        self._settle_s = settle_s
        self._fingerprint: _Fingerprint | None = None
        self._changing = asyncio.Lock()  # a round of one source starts from what the other's has made
        self._in_etcd: dict[str, str] | None = None
        self._complaints: dict[str, str] = {}
        self._awaiting_restart: frozenset[str] = frozenset()
        self._log = get_logger("coordd.config")

    @property
    def loaded(self) -> LoadedConfig:
        """The newest good configuration, but with the settings in force: other changes wait for a restart."""
        if self._in_force.settings is not self._settings or self._in_force_of is not self._loaded:
            self._in_force, self._in_force_of = replace(self._loaded, settings=self._settings), self._loaded
        return self._in_force

    @property
    def settings(self) -> Settings:
        """The settings in force: those of the start with all live changes since."""
        return self._settings

    async def run(self) -> None:
        """Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_files(), name="config-files")
            if self._reader is not None:
                group.create_task(self._follow_etcd(self._reader), name="config-etcd")

    async def _follow_files(self) -> None:
        while True:
            await self.check_files()
            await asyncio.sleep(self._file_interval_s)

    async def _follow_etcd(self, reader: EtcdReader) -> None:
        while True:
            await asyncio.sleep(self._etcd_interval_s)
            await self.check_etcd(reader)

    async def check_files(self) -> None:
        """One round for the files, in a thread: a slow disk must not stop the event loop."""
        try:
            fingerprint = await asyncio.to_thread(_fingerprint, self._loaded.files)
            if fingerprint != self._fingerprint:
                if not await self._settled(fingerprint):
                    return
                async with self._changing:
                    self._accept(await asyncio.to_thread(_read_again, self._loaded))
                self._fingerprint = fingerprint
        except (ConfigError, OSError) as error:
            self._complain("files", error)
        else:
            self._content("files")

    async def _settled(self, fingerprint: _Fingerprint) -> bool:
        await asyncio.sleep(self._settle_s)
        return fingerprint == await asyncio.to_thread(_fingerprint, self._loaded.files)

    async def check_etcd(self, reader: EtcdReader) -> None:
        """One round for etcd."""
        try:
            async with asyncio.timeout(ETCD_READ_TIMEOUT_S):
                values = await reader()
            if values != self._in_etcd:
                async with self._changing:
                    self._accept(await asyncio.to_thread(overlay, self._loaded, values))
                self._in_etcd = dict(values)
        except (CoorddError, OSError, TimeoutError) as error:
            self._complain("etcd", error)
        else:
            self._content("etcd")

    def _accept(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        changes = diff(self._settings, loaded)
        live = tuple(change for change in changes if change.setting.live)
        waiting = frozenset(str(change) for change in changes if not change.setting.live)
        waiting |= frozenset(map(str, member_diff(self._settings, loaded)))
        for text in sorted(waiting - self._awaiting_restart):
            self._log.warning("configuration change takes effect at the next start", change=text)
        self._awaiting_restart = waiting
        if live:
            self._settings = apply_live(self._settings, live)
            for change in live:
                self._log.info("configuration changed", change=str(change))
            self._on_change(self._settings, live)

    def _complain(self, source: str, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if self._complaints.get(source) != text:
            self._complaints[source] = text
            self._log.error(
                "configuration cannot be refreshed, the last good one holds", source=source, error=text
            )

    def _content(self, source: str) -> None:
        if self._complaints.pop(source, None) is not None:
            self._log.info("configuration can be refreshed again", source=source)


def _read_again(loaded: LoadedConfig) -> LoadedConfig:
    return reread(loaded, read_files(loaded.files))


def _fingerprint(files: Files) -> _Fingerprint:
    """What tells an unchanged set of files without reading them: a ConfigMap swap changes the inode."""
    found = []
    for path in files.existing():
        stat = path.stat()
        found.append((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)
