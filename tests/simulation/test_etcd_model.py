"""The model of etcd does what the election relies on in the real one."""

from .etcd_model import ACTIVE, HEARTBEAT, LEASE_NOT_FOUND, WINDOW, EtcdModel
from .event_queue import EventQueue


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

    first = etcd.txn([(ACTIVE, 0)], [(ACTIVE, 7, 0), (HEARTBEAT, 2.0, 0)])
    refused = etcd.txn([(ACTIVE, first.revision), (HEARTBEAT, 0)], [(WINDOW, 1, 0)], [ACTIVE])

    assert first.succeeded
    assert etcd.mod_revision(ACTIVE) == etcd.mod_revision(HEARTBEAT) == first.revision == 2
    assert not refused.succeeded
    assert refused.keys[ACTIVE].value == 7
    assert etcd.revision == 2
    assert etcd.mod_revision(WINDOW) == 0


def test_deleting_what_is_absent_takes_no_revision() -> None:
    setting = Setting()

    assert setting.etcd.txn([], deletes=[ACTIVE]).succeeded
    assert setting.etcd.revision == 1
    assert setting.changes == 0


def test_history_has_every_revision_in_order() -> None:
    etcd = Setting().etcd
    etcd.txn([], [(ACTIVE, 7, 0), (HEARTBEAT, 2.0, 0)])
    etcd.txn([], [(WINDOW, 1, 0)])
    etcd.txn([], deletes=[ACTIVE])

    assert [tuple(view) for view in etcd.history] == [
        (1, 0, None, 0, None),
        (2, 2, 7, 2, 2.0),
        (3, 2, 7, 2, 2.0),
        (4, 0, None, 2, 2.0),
    ]


def test_a_lease_that_is_not_renewed_takes_its_keys_along() -> None:
    setting = Setting()
    lease = setting.etcd.grant(3.0)
    setting.etcd.txn([], [(ACTIVE, 7, lease), (HEARTBEAT, 2.0, 0)])
    setting.advance(2.0)
    assert setting.etcd.keep_alive(lease) == 3.0

    setting.advance(4.9)
    assert setting.etcd.mod_revision(ACTIVE) == 2
    setting.advance(5.1)

    assert setting.etcd.mod_revision(ACTIVE) == 0
    assert setting.etcd.mod_revision(HEARTBEAT) == 2
    assert setting.etcd.keep_alive(lease) == 0.0
    assert setting.etcd.txn([], [(ACTIVE, 7, lease)]) is LEASE_NOT_FOUND


def test_leases_do_not_run_while_etcd_is_down_and_are_full_afterwards() -> None:
    setting = Setting()
    lease = setting.etcd.grant(3.0)
    setting.etcd.txn([], [(ACTIVE, 7, lease)])
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
    setting.etcd.txn([], [(ACTIVE, 7, lease)])
    setting.etcd.txn([], [(ACTIVE, 8, 0)])

    setting.etcd.revoke(lease)

    assert setting.etcd.mod_revision(ACTIVE) == 3
