"""Metadata in memory as a fold of etcd's events.

`Table.apply(event)` is the only way into a table: the initial range read, the followed watch and our own
commits all pass through it, by way of `Fold`. The fold promises to those who read the tables:

* whole revisions only: all events of a batch, of a commit or of a reload are applied in one step that does
  not yield to the event loop (the first load of an empty fold may yield; nobody reads then);
* each event once, in the order of its key's revisions: an event that is not newer than what the fold has of
  that key is ignored, so the watch's echo of an own commit, a resumed watch's overlap and a reload change
  nothing; a delete by an own commit is remembered until the watch has passed it;
* after the watch has delivered revision R, the tables equal the followed range at R, except for own commits
  newer than R, which are in already;
* a value that cannot be taken in is quarantined, and the rest is served.

It does no I/O and does not know where events come from. It relies on its caller for one thing: that load and
watch cover one range that contains every table's prefix, without gaps.

Modelled on etcd's watch guarantees (https://etcd.io/docs/v3.5/learning/api_guarantees/) and on list-and-watch
in Kubernetes' client-go (tools/cache/reflector.go).
"""

import gc
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from coordd.etcd import Event, KeyValue, RangeResult, WatchBatch
from coordd.log import get_logger
from coordd.meta.codecs import DecodeError
from coordd.meta.key_revisions import KeyRevisions
from coordd.meta.quarantine import Quarantine, QuarantinedValue

log = get_logger("coordd.meta.fold")

UNUSABLE: Final = "metadata value cannot be used, serving without it"

RECENT_KEYS: Final = 2_000
"""Keys of the last changes that are remembered: those of some hundred changes of collections."""


class Table(Protocol):
    """The state of one key family. Final state depends only on the current values, not on their order."""

    @property
    def prefix(self) -> str:
        """Absolute, not empty; the family's keys start with it."""

    def apply(self, event: Event) -> None:
        """Take in one event of a key under `prefix`; a delete comes only for a key that was there.

        Raises:
            DecodeError: the value (or the key) is malformed. The table must have dropped the key's previous
                value by then, so that nothing stale is served; what it remembers of the key beyond that is
                its own business. Anything else that is raised is taken for a bug: the fold then applies a
                delete of that key.
        """


class Fold:
    """Tables fed by one ordered stream of etcd events. All methods are synchronous and not thread-safe.

    Raises:
        ValueError: a prefix is empty or taken twice.
    """

    def __init__(self, tables: Sequence[Table], *, watched: Sequence[Table] = ()) -> None:
        """`watched`: further tables, of which an own commit is news too, when the watch tells of it."""
        self._routes: Final = _Routes([*tables, *watched])
        self._watched: Final = tuple(table.prefix for table in watched)
        self._mod_revisions: Final = KeyRevisions()
        self._own_deletes: dict[str, int] = {}
        self._subscribers: list[_Subscriber] = []
        self._recent: dict[str, int] = {}  # and at which revision
        self._traced: set[tuple[str, type[Exception]]] = set()
        self._revision = 0
        self._complete = 0
        self._own_commits: set[int] = set()  # revisions above `_complete`
        self._loads: list[Load] = []
        self.quarantine: Final = Quarantine()

    @property
    def revision(self) -> int:
        """The last revision that load or watch delivered in full; 0 before the first load."""
        return self._revision

    @property
    def complete(self) -> int:
        """The tables hold all that was written up to this revision: what load or watch delivered, and the own
        commits that follow it without a gap. A revision is that of one transaction."""
        return self._complete

    def __len__(self) -> int:
        """How many keys the tables hold, quarantined ones included."""
        return len(self._mod_revisions)

    def recent_keys(self, after: int = 0) -> list[str]:
        """The last `RECENT_KEYS` keys that were written or deleted since the first load, the newest last.

        `after`: only what was so after this revision.
        """
        return [key for key, revision in self._recent.items() if revision > after]

    def covers(self, key: str) -> bool:
        """Whether `key` belongs to a table."""
        return self._routes.table(key) is not None

    def mod_revision(self, key: str) -> int:
        """When a table's key was last written, as far as is known here; 0 if it does not exist."""
        return self._mod_revisions.get(key)

    def load(self, result: RangeResult) -> bool:
        """Make the tables equal a read of the whole followed range; applies only the differences.

        Keys that are not in `result` are deleted, except those an own commit has written since. False, and
        nothing done, if `result` is older than what the fold holds (the watch was faster than the read).
        """
        with self.loading() as load:
            if self.take(load, result):
                self.finish(load, result.revision)
        return self._revision == result.revision

    @contextmanager
    def loading(self) -> Iterator["Load"]:
        """`load` in parts, each taken in with `take` while the next is still to be read, then `finish`.

        Into an empty fold they are applied as they come: nobody may read before the end. Otherwise they are
        only compared, and the differences are applied whole in the end. Watch batches and own commits may be
        applied in between. A load without `finish` was given up; what it has done is made good by the next.
        """
        load = Load(first=self._revision == 0, absent=set(self._mod_revisions))
        self._loads.append(load)
        with _garbage_collection_paused() if load.first else nullcontext():
            try:
                yield load
            finally:
                self._loads = [one for one in self._loads if one is not load]
                self._notify(load.applied)

    def take(self, load: "Load", part: RangeResult) -> bool:
        """The next keys of the range. False: older than what the fold holds by now, so give it up."""
        if part.revision < self._revision:
            return False
        if load.first and self._revision == 0:
            load.applied += self._apply_events(_as_puts(part.kvs), changes=False)
        else:
            load.changed += _as_puts(self._news(part.kvs))
        load.absent.difference_update(kv.key for kv in part.kvs)
        return True

    def finish(self, load: "Load", revision: int) -> None:
        """All that the range held at `revision` was taken; does nothing if the watch has overtaken it.

        What it did not hold is deleted, but for own commits that are newer.
        """
        if revision >= self._revision:
            gone = load.absent.difference(event.key for event in load.changed)
            vanished = [Event(key, None, revision, 0, 0, 0) for key in sorted(gone)]
            load.applied += self._apply_events([*vanished, *load.changed])
            self._advance(revision)

    def _news(self, kvs: Iterable[KeyValue]) -> Iterator[KeyValue]:
        """What is newer than what the fold has."""
        return (kv for kv in kvs if kv.mod_revision > self._mod_revisions.get(kv.key))

    def apply(self, batch: WatchBatch) -> bool:
        """Take in what the watch delivered next. A batch that is not newer is ignored, wholly or in part.

        False: all of it was here before, being the echo of own commits, and nothing of it is in a `watched`
        table. That is so for nearly every batch that an active replica gets.
        """
        if batch.revision <= self._complete:
            self._advance(batch.revision)
            return any(event.key.startswith(self._watched) for event in batch.events)
        applied = self._apply_events(event for event in batch.events if event.mod_revision > self._revision)
        self._advance(batch.revision)
        self._notify(applied)
        return True

    def apply_commit(self, revision: int, events: Iterable[Event], *, all_of_it: bool = True) -> None:
        """Take in an own transaction that etcd has committed at `revision`, before the watch tells of it.

        `events` are all its writes, with `mod_revision` = `revision`. Does not change `self.revision`.
        `all_of_it`: nothing else was written at that revision; if that is not certain, `complete` waits for
        the watch.
        """
        if revision <= self._revision:
            return
        writes = tuple(events)
        applied = self._apply_events(writes)
        puts = False
        for event in writes:
            if event.value is not None:
                puts = True
            elif self.covers(event.key):
                self._own_deletes[event.key] = max(revision, self._own_deletes.get(event.key, 0))
        # A delete of what is not there has no revision.
        if all_of_it and puts:
            self._own_commits.add(revision)
            self._extend()
        self._notify(applied)

    def subscribe(self, prefix: str, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call `callback` with each change of a table's key under `prefix`, once the revision is in whole.

        A quarantined value comes as a delete. An exception of the callback is logged and goes no further.
        Returns what ends the subscription; calling it again does no harm.
        """
        subscriber = _Subscriber(prefix, callback)
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def _apply_events(self, events: Iterable[Event], *, changes: bool = True) -> list[Event]:
        """Returns what subscribers are to be told. `changes`: these are changes, and not what there is."""
        telling = []
        for event in events:
            table = self._routes.table(event.key)
            if table is None or not self._is_news(event):
                continue
            if changes:
                self._remember(event)
            good = self._apply_event(table, event)
            if self._subscribers and any(event.key.startswith(one.prefix) for one in self._subscribers):
                telling.append(event if good else _as_delete(event))
        return telling

    def _remember(self, event: Event) -> None:
        self._recent.pop(event.key, None)
        self._recent[event.key] = event.mod_revision
        if len(self._recent) > RECENT_KEYS:
            del self._recent[next(iter(self._recent))]

    def _is_news(self, event: Event) -> bool:
        """Record the event's revision; False if the fold has a newer one, or a delete finds nothing."""
        key, revision = event.key, event.mod_revision
        if revision <= self._mod_revisions.get(key) or revision <= self._own_deletes.get(key, 0):
            return False
        if event.value is None:
            return self._mod_revisions.drop(key)
        self._mod_revisions.put(key, revision)
        for load in self._loads:
            load.absent.add(key)
        return True

    def _apply_event(self, table: Table, event: Event) -> bool:
        """False: the event's value went into quarantine."""
        try:
            table.apply(event)
        except DecodeError as error:
            if event.value is not None:
                self._set_aside(event, error.reason)
                return False
        except Exception as error:  # noqa: BLE001 - logged there; one table's bug must not stop all
            self._set_aside(event, f"{type(error).__name__}: {error}", (table.prefix, error))
            self._drop(table, event)
            return False
        if self.quarantine:
            self.quarantine.clear(event.key)
        return True

    def _set_aside(self, event: Event, reason: str, bug: tuple[str, Exception] | None = None) -> None:
        """Quarantine the value; `bug` holds the table's prefix and its exception, if that was unexpected."""
        value = QuarantinedValue(event.key, reason, event.mod_revision, unexpected=bug is not None)
        if not self.quarantine.add(value):
            return
        trace = None
        if bug is not None and (known := (bug[0], type(bug[1]))) not in self._traced:
            self._traced.add(known)
            trace = bug[1]
        log.error(UNUSABLE, key=event.key, revision=event.mod_revision, reason=reason, exc_info=trace)

    def _drop(self, table: Table, event: Event) -> None:
        """After an unexpected exception: take out what the table may still have of the key."""
        try:
            table.apply(_as_delete(event))
        except Exception:
            log.exception("a quarantined key could not be taken out of its table", key=event.key)

    def _advance(self, revision: int) -> None:
        self._revision = max(self._revision, revision)
        if self._complete < self._revision:
            self._complete = self._revision
            self._own_commits = {at for at in self._own_commits if at > self._complete}
            self._extend()
        if self._own_deletes:
            self._own_deletes = {key: at for key, at in self._own_deletes.items() if at > self._revision}

    def _extend(self) -> None:
        while self._complete + 1 in self._own_commits:
            self._complete += 1
            self._own_commits.remove(self._complete)

    def _notify(self, events: list[Event]) -> None:
        for event in events:
            for subscriber in tuple(self._subscribers):
                if event.key.startswith(subscriber.prefix):
                    subscriber.call(event)


@dataclass(slots=True)
class Load:
    """A load under way.

    `first`: into an empty fold. `absent`: keys that the fold has, those included that it got from elsewhere
    meanwhile, and that the range has not shown so far; to note what it has shown would keep all keys of a
    first load twice. `changed`: what differs, and is to be applied in the end; its keys are there, also those
    that are in `absent` because elsewhere told of them later. `applied`: what subscribers are to be told.
    """

    first: bool
    absent: set[str]
    changed: list[Event] = field(default_factory=list)
    applied: list[Event] = field(default_factory=list)


class _Subscriber:
    __slots__ = ("_callback", "prefix")

    def __init__(self, prefix: str, callback: Callable[[Event], None]) -> None:
        self.prefix = prefix
        self._callback = callback

    def call(self, event: Event) -> None:
        try:
            self._callback(event)
        except Exception:
            log.exception("a listener of metadata changes failed", key=event.key)


class _Routes:
    """Which table a key belongs to: that with the longest prefix.

    The prefixes cut the key space into intervals, each with one owner, so a key costs one bisection however
    the prefixes nest. Intervals are in code point order, in which the keys with a prefix are contiguous.
    """

    __slots__ = ("_owners", "_starts")

    def __init__(self, tables: Sequence[Table]) -> None:
        by_prefix = {table.prefix: table for table in tables}
        if "" in by_prefix or len(by_prefix) != len(tables):
            raise ValueError(f"prefixes must differ and not be empty: {sorted(t.prefix for t in tables)}")
        ends = {prefix: prefix[:-1] + chr(ord(prefix[-1]) + 1) for prefix in by_prefix}
        self._starts = sorted({*by_prefix, *ends.values()})
        self._owners: list[Table | None] = [None]
        for start in self._starts:
            around = [prefix for prefix in by_prefix if prefix <= start < ends[prefix]]
            self._owners.append(by_prefix[max(around, key=len)] if around else None)

    def table(self, key: str) -> Table | None:
        return self._owners[bisect_right(self._starts, key)]


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """A first load makes very many objects and no garbage: looking for some doubles its time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _as_puts(kvs: Iterable[KeyValue]) -> list[Event]:
    return [Event(kv.key, kv.value, kv.mod_revision, kv.create_revision, kv.lease, kv.version) for kv in kvs]


def _as_delete(event: Event) -> Event:
    return Event(event.key, None, event.mod_revision, 0, 0, 0)
