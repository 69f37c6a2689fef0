"""Which proxies time ticks wait for."""

from coordd.etcd import Event
from coordd.ha.leadership import SessionTable
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout
from coordd.rootcoord.timetick.sessions import ProxySessions

LAYOUT = MetaLayout("by-dev", "meta", "kv")


class Table:
    """Sessions that come and go."""

    def __init__(self) -> None:
        self.sessions = SessionTable(LAYOUT)
        self._revision = 0

    def put(self, server_id: int, address: str) -> None:
        record = SessionRecord(server_id=server_id, server_name="proxy", address=address, version="2.3.5")
        self._apply(server_id, record.to_json())

    def end(self, server_id: int) -> None:
        self._apply(server_id, None)

    def _apply(self, server_id: int, value: bytes | None) -> None:
        self._revision += 1
        key = LAYOUT.session("proxy", server_id)
        self.sessions.apply(Event(key, value, self._revision, 0, 0, 0))


def test_one_whose_session_was_ended_alive_counts_until_it_has_left() -> None:
    table = Table()
    proxies = ProxySessions(table.sessions)
    table.put(7, "a:1")
    table.put(8, "b:1")
    entry = proxies.entry(7)
    assert entry is not None
    proxies.leave(7, entry)
    table.end(7)
    table.end(8)
    assert (proxies.registered(), proxies.ids(), proxies.has(7), proxies.has(8)) == ([], {7}, True, False)
    assert proxies.entry(7) is None
    assert proxies.leaving[7].record == entry.record
    proxies.left(7)
    assert (proxies.ids(), proxies.has(7)) == (set(), False)
    proxies.left(7)


def test_only_another_proxy_at_the_same_address_replaces_it() -> None:
    table = Table()
    proxies = ProxySessions(table.sessions)
    table.put(7, "a:1")
    entry = proxies.entry(7)
    assert entry is not None
    assert not proxies.replaced(7)
    proxies.leave(7, entry)
    table.put(8, "a:2")
    assert not proxies.replaced(7)
    table.put(9, "a:1")
    assert proxies.replaced(7)
