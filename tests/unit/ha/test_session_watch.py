"""The sessions of other processes, as those who call them see them."""

from typing import Any

from coordd.etcd import Event
from coordd.ha.leadership import SessionTable
from coordd.ha.session import SessionRecord
from coordd.ha.session_watch import SessionWatch
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")


class Place:
    """A session table, and a follower that says when it has moved on."""

    def __init__(self) -> None:
        table = SessionTable(LAYOUT)
        self.fold = Fold([table])
        self.listeners: list[Any] = []
        follower: Any = self
        self.watch = SessionWatch(table, follower)

    def on_progress(self, listener: Any) -> None:
        self.listeners.append(listener)

    def write(self, revision: int, server_id: int, address: str | None, role: str = "proxy") -> None:
        value = None
        if address is not None:
            value = SessionRecord(
                server_id=server_id, server_name=role, address=address, version="2.3.5"
            ).to_json()
        key = LAYOUT.session(role, server_id)
        self.fold.apply_commit(revision, [Event(key, value, revision, revision, 7, 1)])
        for listener in self.listeners:
            listener()

    def addresses(self, role: str = "proxy") -> dict[int, str]:
        return {server_id: record.address for server_id, record in self.watch.nodes(role).items()}


def test_nodes_come_move_and_go() -> None:
    place = Place()
    assert place.addresses() == {}
    place.write(2, 10, "a:1")
    place.write(3, 9, "b:1")
    assert place.addresses() == {9: "b:1", 10: "a:1"}
    assert list(place.watch.nodes("proxy")) == [9, 10]
    place.write(4, 9, "c:1")
    assert place.addresses() == {9: "c:1", 10: "a:1"}
    place.write(5, 10, None)
    assert place.addresses() == {9: "c:1"}


def test_what_was_asked_for_once_is_not_another_role() -> None:
    place = Place()
    place.write(2, 10, "a:1")
    place.write(3, 11, "b:1", "datanode")
    assert place.addresses() == {10: "a:1"}
    assert place.addresses("datanode") == {11: "b:1"}
    assert place.addresses("querynode") == {}


def test_an_answer_stays_as_it_was() -> None:
    place = Place()
    place.write(2, 10, "a:1")
    before = place.watch.nodes("proxy")
    place.write(3, 11, "b:1")
    assert list(before) == [10]
    assert list(place.watch.nodes("proxy")) == [10, 11]


def test_listeners_hear_of_changes_only() -> None:
    place, heard = Place(), []
    end = place.watch.listen(lambda: heard.append(dict(place.addresses())))
    place.write(2, 10, "a:1")
    for listener in place.listeners:
        listener()
    assert heard == [{10: "a:1"}]
    end()
    place.write(3, 11, "b:1")
    assert len(heard) == 1
