"""One safeguard taken out at a time, and the tests that have to fail then.

A mutant is a replacement of text in one file of `coordd/`. The tests are those of the suite that are meant to
guard the place, not all that would fail.
"""

from dataclasses import dataclass
from typing import Final

LEADERSHIP: Final = "coordd/ha/leadership.py"
DISPATCH: Final = "coordd/rpc/dispatch.py"
ELECTION: Final = "coordd/ha/election.py"
TRANSACTIONS: Final = "tests/integration/ha/test_leadership_transactions.py"
TICKS: Final = "coordd/rootcoord/timetick/protocol.py"
CREATION: Final = "coordd/rootcoord/collections/creation.py"
ALTERATIONS: Final = "tests/unit/rootcoord/test_alterations.py"
PLANS: Final = "tests/unit/rootcoord/collections"
SNAPSHOTS: Final = "tests/unit/rootcoord/snapshots"
SENDERS: Final = "tests/unit/rootcoord/timetick/test_protocol.py::test_nothing_follows_a_tick_that_covers_it"
IMPORTS: Final = "tests/unit/rootcoord/imports/test_driver.py"
QUOTA_CENTER: Final = "coordd/rootcoord/quota/center.py"
HTTP2: Final = "tests/unit/http2"
CALLS: Final = "tests/integration/http2"
SLOW_CLIENTS: Final = "tests/integration/rpc/test_rpc_slow_clients.py"
QUOTA_ROUNDS: Final = "tests/integration/rootcoord/test_quota_center.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old`, which stands in `file` exactly once, becomes `new`; one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS: Final = (
    Mutant(
        "the fence",
        LEADERSHIP,
        "return Compare.mod_revision(self.active_key, epoch)",
        'return Compare.mod_revision(self.active_key + "-never-there", 0)',
        (TRANSACTIONS,),
    ),
    Mutant(
        "the guard's second check, of answers that took time",
        DISPATCH,
        "await self._wait_to_answer(method, call, epoch)",
        "method.stats.held += 0",
        ("tests/unit/rpc/test_rpc_guard.py",),
    ),
    Mutant(
        "the guard's second check, of answers from memory",
        DISPATCH,
        "if answer is None or (method.guarded and not (gate.serving() and gate.epoch == epoch)):",
        "if answer is None or (method.guarded and gate.epoch < 0):",
        ("tests/unit/rpc/test_rpc_guard.py",),
    ),
    Mutant(
        "the heartbeat's compare in a campaign",
        LEADERSHIP,
        "                Compare.mod_revision(self.heartbeat_key, expected_heartbeat_revision),\n",
        "",
        (TRANSACTIONS,),
    ),
    Mutant(
        "the compare of the ACTIVE key in a campaign",
        LEADERSHIP,
        "                Compare.mod_revision(self.active_key, expected_active_revision),\n",
        "",
        (TRANSACTIONS,),
    ),
    Mutant(
        "the compare of the heir's report",
        LEADERSHIP,
        "                Compare.mod_revision(report_key, report_revision),\n",
        "",
        (TRANSACTIONS,),
    ),
    Mutant(
        "the wait for the guard of a holder that crashed unsettled",
        ELECTION,
        "if view.heartbeat_mod_revision == 0 or (crashed and view.heartbeat_settled):",
        "if view.heartbeat_mod_revision == 0 or crashed:",
        ("tests/unit/ha/test_election_steal.py",),
    ),
    Mutant(
        "the new count of silence after a gap",
        ELECTION,
        "        if event.now - self._proof_at > self.settings.commit_gap_s:\n",
        "        if event.now < self._proof_at:\n",
        ("tests/unit/ha/test_election_steal.py",),
    ),
    Mutant(
        "the lower bound of a new term's ticks",
        TICKS,
        "if tick >= self._floor and tick > self._ordered.get(channel, 0):",
        "if tick > self._ordered.get(channel, 0):",
        (SENDERS,),
    ),
    Mutant(
        "the wait for proxies that have not reported",
        TICKS,
        "if len(reports) <= len(self._proxies):",
        "if not reports:",
        (SENDERS,),
    ),
    Mutant(
        "the memory of the last tick",
        TICKS,
        "if tick >= self._floor and tick > self._ordered.get(channel, 0):",
        "if tick >= self._floor:",
        (SENDERS,),
    ),
    Mutant(
        "the hold of DDL messages",
        "coordd/rootcoord/timetick/holds.py",
        "held[channel] = min(hold.promised, held.get(channel, fresh))",
        "held[channel] = min(fresh, held.get(channel, fresh))",
        (SENDERS,),
    ),
    Mutant(
        "the proof that a silent proxy is gone",
        "coordd/rootcoord/timetick/absentees.py",
        "if gone and entry is not None and self._may_act():",
        "if entry is not None and self._may_act():",
        ("tests/integration/rootcoord/test_time_ticks.py",),
    ),
    Mutant(
        "the wait for a proxy whose session was ended though it lived",
        "coordd/rootcoord/timetick/sessions.py",
        "return {*self.registered(), *self._leaving}",
        "return set(self.registered())",
        ("tests/unit/rootcoord/timetick/test_sessions.py",),
    ),
    Mutant(
        "the same wait in the term that follows",
        "coordd/rootcoord/timetick/assembly.py",
        "        proxies.leave(server_id, entry)\n",
        "        entry.key\n",
        ("tests/integration/rootcoord/test_time_ticks.py::TestPitfall18Takeover",),
    ),
    Mutant(
        "the collection's own key as the last to go",
        "coordd/rootcoord/collections/removal.py",
        "        *tables.collections.part_keys(collection_id),\n"
        "        *tables.collections.keys_of(collection_id),\n",
        "        *tables.collections.keys_of(collection_id),\n"
        "        *tables.collections.part_keys(collection_id),\n",
        (f"{PLANS}/test_removal.py",),
    ),
    Mutant(
        "the second look at a new collection's name",
        CREATION,
        "if tables.resolve(row.home_db_id, row.name) is not None:",
        "if not row.name:",
        (f"{PLANS}/test_creation.py",),
    ),
    Mutant(
        "the end of an alias that hides a new collection",
        CREATION,
        "        *tombstones(layout, dead_alias_keys(tables, row.home_db_id, row.name), timestamp),\n",
        "",
        (f"{PLANS}/test_pitfalls.py",),
    ),
    Mutant(
        "the time of a replicated collection",
        "coordd/rootcoord/collections/change.py",
        "return max(timestamp, row.create_time)",
        "return timestamp",
        (f"{PLANS}/test_creation.py",),
    ),
    Mutant(
        "the room for the mark in a transaction of a plan",
        "coordd/rootcoord/collections/change.py",
        "MAX_OPS: Final = MAX_TXN_OPS - 1",
        "MAX_OPS: Final = MAX_TXN_OPS",
        (f"{PLANS}/test_creation.py",),
    ),
    Mutant(
        "what proxies are told in a call that is refused",
        "coordd/rootcoord/handlers/alterations.py",
        "        except MilvusError:\n            await self._word(named).spread(0)\n            raise\n",
        "",
        ("tests/integration/rootcoord/test_alterations.py",),
    ),
    Mutant(
        "what a call that was broken off has made",
        "coordd/rootcoord/ddl.py",
        "            self._unsure = unsure\n",
        "            self._unsure.discard(call)\n",
        ("tests/unit/rootcoord/test_repetitions.py",),
    ),
    Mutant(
        "changes of one thing do not share a transaction",
        "coordd/rootcoord/batch.py",
        "        subjects.add(about)\n",
        "",
        ("tests/unit/rootcoord/test_ddl.py",),
    ),
    Mutant(
        "an outcome that nobody knows is told to all of a transaction",
        "coordd/rootcoord/ddl.py",
        "            _all_failed(chosen.taken, OutcomeUnknown(",
        "            _all_failed((), OutcomeUnknown(",
        ("tests/unit/rootcoord/test_ddl.py",),
    ),
    Mutant(
        "a restored name that another has made meanwhile",
        "coordd/rootcoord/access/backup.py",
        "all(users.encrypted_password(user.user) == user.password for user in part.users)",
        "all(user.user in users for user in part.users)",
        ("tests/unit/rootcoord/test_repetitions.py",),
    ),
    Mutant(
        "one thing at a time for a proxy that hangs",
        QUOTA_CENTER,
        "        if name in self._under_way:\n            return None\n",
        "",
        (f"{QUOTA_ROUNDS}::test_a_proxy_that_hangs_holds_no_other_up",),
    ),
    Mutant(
        "the guard before proxies are told what to let through",
        QUOTA_CENTER,
        "        if self._around.may_send_s() <= 0:\n            return\n",
        "",
        (f"{QUOTA_ROUNDS}::test_nobody_is_told_if_this_replica_may_not_act_any_more",),
    ),
    Mutant(
        "the denial that no least rate lifts",
        "coordd/rootcoord/quota/limits.py",
        "if writing is None else 0.0",
        "if writing is None else ranges[kind].least",
        ("tests/unit/rootcoord/quota/test_limits.py",),
    ),
    Mutant(
        "the newest version that a look-up may still ask for",
        "coordd/rootcoord/snapshots/retention.py",
        "Removal(history.key, versions[: seen - 1]) if seen > 1",
        "Removal(history.key, versions[:seen]) if seen",
        (f"{SNAPSHOTS}/test_retention.py",),
    ),
    Mutant(
        "the tombstone as the last of a deleted key to go",
        "coordd/rootcoord/snapshots/retention.py",
        "for part in _parts(one, most):",
        "for part in reversed(list(_parts(one, most))):",
        (f"{SNAPSHOTS}/test_collector.py",),
    ),
    Mutant(
        "the compare of the plain key whose tombstone goes",
        "coordd/rootcoord/snapshots/collector.py",
        "expect={key: _revision(plain[key]) for key in forgotten},",
        "expect={},",
        (f"{SNAPSHOTS}/test_collector.py",),
    ),
    Mutant(
        "the first run of an import task that wrote all rows wins",
        "coordd/rootcoord/imports/states.py",
        "        **_LATE,\n",
        "        **_RUNNING,\n",
        (f"{IMPORTS}::test_a_task_that_runs_twice_shows_its_rows_once",),
    ),
    Mutant(
        "an import that is repeated makes no second task",
        "coordd/rootcoord/imports/records.py",
        "if self._ddl.is_repetition(asked, stamp.timestamp) and (former",
        "if not asked and (former",
        (
            "tests/unit/rootcoord/imports/test_handlers.py"
            "::test_an_import_of_an_earlier_term_is_known_when_it_is_repeated",
        ),
    ),
    Mutant(
        "an import that has failed is no answer to another",
        "coordd/rootcoord/imports/requests.py",
        "        and task.state.stateCode not in (FAILED, CLEANED)\n",
        "",
        ("tests/unit/rootcoord/imports/test_handlers.py::test_an_import_that_has_failed_is_taken_anew",),
    ),
    Mutant(
        "segments are shown before their import task is done",
        "coordd/rootcoord/imports/driver.py",
        "await self._data_coord.unset_is_importing(segments, deadline=_soon())",
        "segments.clear()",
        (f"{IMPORTS}::test_a_task_from_its_file_to_its_rows",),
    ),
    Mutant(
        "a window that the peer made smaller while data waited",
        "coordd/http2/sending.py",
        "if stream.window <= 0:",
        "if stream.queue is None:",
        (f"{HTTP2}/test_core_flow.py",),
    ),
    Mutant(
        "a header block that changes the table is decoded each time",
        "coordd/http2/hpack.py",
        "if changes == self._changes and end <= _MAX_CACHED_BYTES:",
        "if end <= _MAX_CACHED_BYTES:",
        (f"{HTTP2}/test_hpack_vectors.py", f"{HTTP2}/test_hpack_model.py"),
    ),
    Mutant(
        "the bound on frames that bring nothing",
        "coordd/http2/connection.py",
        "if self._nuisance > self._calm_limit:",
        "if self._nuisance < 0:",
        (f"{HTTP2}/test_core_hostile.py::test_floods_end_with_enhance_your_calm",),
    ),
    Mutant(
        "calls that are given up after a while are no flood",
        "coordd/http2/connection.py",
        "number > self._old_up_to",
        "number > 0",
        (f"{HTTP2}/test_core_hostile.py::test_calls_that_are_given_up_after_a_while_are_no_flood",),
    ),
    Mutant(
        "what comes for a stream that was given up",
        "coordd/http2/connection.py",
        "if number not in self._given_up:",
        "if number > 0:",
        (f"{HTTP2}/test_core_pair.py",),
    ),
    Mutant(
        "an answer to a ping at the very time of the ping",
        "coordd/http2/link.py",
        "self._heard >= pinged",
        "self._heard > pinged",
        (f"{CALLS}/test_http2_link.py::test_answers_that_come_within_a_tick_of_the_clock_count",),
    ),
    Mutant(
        "the bound on answers that a client does not read",
        "coordd/rpc/served_connection.py",
        "if self._link.unwritten > _UNSENT_LIMIT:",
        "if self._link.unwritten < 0:",
        (f"{SLOW_CLIENTS}::test_requests_wait_while_the_socket_is_not_read",),
    ),
    Mutant(
        "the bound on answers that wait for a client's windows",
        "coordd/rpc/served_connection.py",
        "if core.unsent > _UNSENT_LIMIT:",
        "if core.unsent < 0:",
        (f"{SLOW_CLIENTS}::test_requests_wait_while_answers_wait_for_windows",),
    ),
    Mutant(
        "the last answer arrives though something is unread",
        "coordd/http2/link.py",
        "Parting(transport, self.connection_lost)",
        "transport.close()",
        (f"{CALLS}/test_parting.py::test_an_answer_arrives_though_the_server_stops_with_something_unread",),
    ),
    Mutant(
        "a refused call was not carried out",
        "coordd/http2/outcome.py",
        "sent=code != REFUSED_STREAM",
        "sent=True",
        (f"{CALLS}/test_channel.py::test_answers_that_are_none",),
    ),
    Mutant(
        "who asks while a change is written is told again",
        "coordd/rootcoord/word.py",
        "anew = revision == 0 or self._seen",
        "anew = revision == 0",
        ("tests/unit/rootcoord/test_word.py::test_who_asks_while_it_is_written_is_told_again",),
    ),
    Mutant(
        "early word counts only for what was written",
        "coordd/rootcoord/word.py",
        "anew = revision == 0 or self._seen",
        "anew = self._seen",
        ("tests/unit/rootcoord/test_word.py::test_a_write_of_unknown_outcome_is_told_again",),
    ),
    Mutant(
        "who has just asked is not told early",
        "coordd/rootcoord/word.py",
        "        if self._seen:\n",
        "        if not looks:\n",
        ("tests/unit/rootcoord/test_word.py::test_who_has_just_asked_is_told_when_it_is_written",),
    ),
    Mutant(
        "nobody is told early when a term has just begun",
        "coordd/rootcoord/coordinator.py",
        "        self._looks.begin_term()\n",
        "",
        (
            "tests/unit/rootcoord/test_activation.py"
            "::test_what_an_earlier_term_has_answered_may_be_on_its_way_when_a_term_begins",
        ),
    ),
    Mutant(
        "each change of a shared transaction is guarded",
        "coordd/rootcoord/ddl.py",
        "also_guard=chosen.guards",
        "also_guard=()",
        ("tests/unit/rootcoord/test_ddl.py::TestTogether",),
    ),
    Mutant(
        "who asks for the collection that an alias leaves is told again",
        "coordd/rootcoord/word.py",
        "{self._change.collection_id, self._change.led_to} - {0}",
        "{self._change.collection_id} - {0}",
        (f"{ALTERATIONS}::test_who_asks_for_the_old_state_while_it_is_written_is_told_again",),
    ),
    Mutant(
        "a refusal of one name keeps no other from being told",
        "coordd/rootcoord/word.py",
        "self._told.get(number, NOBODY))\n            except MilvusError as refusal:\n",
        "self._told.get(number, NOBODY))\n            except ValueError as refusal:\n",
        ("tests/unit/rootcoord/test_word.py::test_a_refusal_keeps_no_other_name_from_being_told",),
    ),
    Mutant(
        "what proxies are told of an alteration of unknown outcome",
        "coordd/rootcoord/handlers/alterations.py",
        "            self._tell_when_settled(alteration, named)\n",
        "",
        (f"{ALTERATIONS}::test_what_was_not_known_to_be_written_is_told_when_it_is",),
    ),
)
