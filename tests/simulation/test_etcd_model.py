"""The model of etcd does what the election relies on in the real one."""

from coordd.ha.election_events import Offer, Standby

from .etcd_model import (
    ACTIVE,
    HEARTBEAT,
    LEASE_NOT_FOUND,
    OFFER,
    WINDOW,
    Beat,
    EtcdModel,
    Holder,
    Leadership,
    report_key,
    session_key,
)
from .event_queue import EventQueue

SEVEN = Holder(7, safe=True)


class Setting:
    """An etcd and the queue it lives in."""

    def __init__(self) -> None:
        self.changes = 0
        self.queue = EventQueue(lambda _: None)
        self.etcd = EtcdModel(self.queue, 1.0, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def advance(self, until: float) -> None:
        """Let time pass."""
        reached: list[float] = []
        self.queue.at(until, None, reached.append, until)
        while not reached:
            self.queue.step()


def test_a_transaction_is_one_revision_and_all_or_nothing() -> None:
    etcd = Setting().etcd

    first = etcd.txn([(ACTIVE, 0)], [(ACTIVE, SEVEN, 0), (HEARTBEAT, Beat(2.0, settled=True), 0)])
    refused = etcd.txn([(ACTIVE, first.revision), (HEARTBEAT, 0)], [(WINDOW, 1, 0)], [ACTIVE])

    assert first.succeeded
    assert etcd.mod_revision(ACTIVE) == etcd.mod_revision(HEARTBEAT) == first.revision == 2
    assert not refused.succeeded
    assert refused.keys[ACTIVE].value == SEVEN
    assert etcd.revision == 2
    assert etcd.mod_revision(WINDOW) == 0


def test_deleting_what_is_absent_takes_no_revision() -> None:
    setting = Setting()

    assert setting.etcd.txn([], deletes=[ACTIVE]).succeeded
    assert setting.etcd.revision == 1
    assert setting.changes == 0


def test_history_has_every_revision_in_order() -> None:
    etcd = Setting().etcd
    beat = Beat(2.0, settled=True)
    etcd.txn([], [(ACTIVE, SEVEN, 0), (HEARTBEAT, beat, 0)])
    etcd.txn([], [(WINDOW, 1, 0)])
    etcd.txn([], deletes=[ACTIVE])

    assert etcd.history == [
        Leadership(1),
        Leadership(2, 2, 7, True, 0, 2, beat),
        Leadership(3, 2, 7, True, 0, 2, beat),
        Leadership(4, heartbeat_mod_revision=2, beat=beat),
    ]


def test_a_view_shows_offer_and_standbys_but_not_the_holder_among_them() -> None:
    etcd = Setting().etcd
    lease = etcd.grant(3.0)
    for server_id in (12, 7, 9):
        etcd.txn([], [(session_key(server_id), "", lease)])
    etcd.txn([], [(ACTIVE, SEVEN, lease), (OFFER, (7, 9), 0)])
    etcd.txn([], [(report_key(9), 5, lease)])

    view = etcd.history[-1]
    assert view.offer == Offer(mod_revision=5, by=7, to=9)
    assert view.standbys == (Standby(9, report_revision=6, offer=5), Standby(12))

    etcd.revoke(lease)
    assert etcd.history[-1].standbys == ()


def test_a_lease_that_is_not_renewed_takes_its_keys_along() -> None:
    setting = Setting()
    lease = setting.etcd.grant(3.0)
    setting.etcd.txn([], [(ACTIVE, SEVEN, lease), (HEARTBEAT, Beat(2.0, settled=True), 0)])
    setting.advance(2.0)
    assert setting.etcd.keep_alive(lease) == 3.0

    setting.advance(4.9)
    assert setting.etcd.mod_revision(ACTIVE) == 2
    setting.advance(5.1)

    assert setting.etcd.mod_revision(ACTIVE) == 0
    assert setting.etcd.mod_revision(HEARTBEAT) == 2
    assert setting.etcd.keep_alive(lease) == 0.0
    assert setting.etcd.txn([], [(ACTIVE, SEVEN, lease)]) is LEASE_NOT_FOUND


def test_leases_do_not_run_while_etcd_is_down_and_are_full_afterwards() -> None:
    setting = Setting()
    lease = setting.etcd.grant(3.0)
    setting.etcd.txn([], [(ACTIVE, SEVEN, lease)])
    setting.advance(2.9)
    setting.etcd.stop()
    setting.advance(20.0)
    setting.etcd.start()

    setting.advance(22.9)
    assert setting.etcd.mod_revision(ACTIVE) == 2
    setting.advance(23.1)
    assert setting.etcd.mod_revision(ACTIVE) == 0


def test_a_key_put_without_its_lease_outlives_it() -> None:
    setting = Setting()
    lease = setting.etcd.grant(3.0)
    setting.etcd.txn([], [(ACTIVE, SEVEN, lease)])
    setting.etcd.txn([], [(ACTIVE, Holder(8, safe=True), 0)])

    setting.etcd.revoke(lease)

    assert setting.etcd.mod_revision(ACTIVE) == 3
