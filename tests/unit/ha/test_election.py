"""The election, told as transcripts; see `election_script` for the notation."""

from typing import Any

import pytest

from coordd.ha import election as el
from coordd.ha import election_events as ev

from .election_cases import (
    ACTIVE,
    AWAITING,
    DRAINING,
    FREE,
    HANDING_OVER,
    OFFERING,
    PASSING_ON,
    RESIGNING,
    SETTLED,
    TAKING_OVER,
    played,
)
from .election_script import parse, play

# --- taking over ----------------------------------------------------------------------------------------


def test_the_first_replica_of_a_cluster_serves_at_once() -> None:
    played("""
        10.0  observed 1      -> campaigning: campaign 0
        10.1  won 2           -> activating: begin term 2
        10.2  activated       -> active: serve 2
        10.3  observed 3, active 2 of 5, heartbeat 3  -> active
    """)


def test_a_crashed_holders_guard_is_waited_out_from_its_last_heartbeat() -> None:
    played("""
        10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby [10.75]
        10.4  observed 21, active 7 of 3, heartbeat 21 guard 2.0  -> standby [11.15]
        10.5  observed 22, active 7 of 3, heartbeat 21 guard 2.0  -> standby [11.15]
        11.0  observed 23, heartbeat 21 guard 2.0                 -> campaigning: campaign 21
        11.1  won 24                                              -> activating: begin term 24
        11.2  activated                                           -> activating [12.9]
        12.8  tick                                                -> activating [12.9]
        12.9  tick                                                -> active: serve 24
    """)


def test_activation_that_takes_longer_than_the_guard_is_not_held_up_any_more() -> None:
    subject = played(TAKING_OVER)
    assert subject.next_deadline() is None

    play(subject, "12.6  activated -> active: serve 22")


def test_a_holder_that_released_leadership_is_not_waited_for() -> None:
    played("""
        10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby [10.75]
        10.1  observed 21                                         -> campaigning: campaign 0
        10.2  won 22                                              -> activating: begin term 22
        10.3  activated                                           -> active: serve 22
    """)


def test_a_replica_that_starts_after_a_crash_waits_from_its_first_look() -> None:
    played("""
        50.0  observed 21, heartbeat 19 guard 2.0  -> campaigning: campaign 19
        50.1  won 22                               -> activating: begin term 22
        50.1  activated                            -> activating [52.5]
        52.5  tick                                 -> active: serve 22
    """)


def test_the_guard_that_the_heartbeat_publishes_is_the_one_waited_for() -> None:
    played("""
        10.0  observed 21, heartbeat 19 guard 6.0  -> campaigning: campaign 19
        10.1  won 22                               -> activating: begin term 22
        10.2  activated                            -> activating [16.5]
    """)


def test_a_heartbeat_that_says_nothing_of_a_guard_counts_with_our_own() -> None:
    played("""
        10.0  observed 21, heartbeat 19  -> campaigning: campaign 19
        10.1  won 22                     -> activating: begin term 22
        10.2  activated                  -> activating [12.5]
    """)


def test_our_own_heartbeat_seen_before_the_campaigns_answer_delays_nothing() -> None:
    played("""
        10.0  observed 20                                         -> campaigning: campaign 0
        10.1  observed 21, active 21 of 5, heartbeat 21 guard 2.0 -> campaigning
        10.2  won 21                                              -> activating: begin term 21
        10.3  activated                                           -> active: serve 21
    """)


def test_an_unsettled_winner_publishes_the_longer_of_both_guards() -> None:
    subject = played("10.0  observed 21, heartbeat 19 guard 6.0  -> campaigning: campaign 19")
    assert subject.promise(10.0) == el.Promise(6.0, settled=False)
    play(subject, """
        10.1  won 22           -> activating: begin term 22
        10.2  activated        -> activating [16.5]
        16.4  observed 30, active 22 of 5, heartbeat 30 guard 6.0 -> activating [16.5]
    """)  # fmt: skip
    assert subject.promise(16.4) == el.Promise(6.0, settled=False)

    play(subject, "16.5  tick -> active: serve 22")

    assert subject.promise(16.5) == el.Promise(2.0, settled=True)


def test_a_shorter_guard_of_the_previous_holder_does_not_shorten_ours() -> None:
    subject = played("10.0  observed 21, heartbeat 19 guard 0.3  -> campaigning: campaign 19")

    assert subject.promise(10.0) == el.Promise(2.0, settled=False)


# --- standing by ----------------------------------------------------------------------------------------


def test_a_milvus_holder_is_left_alone_until_its_key_is_deleted() -> None:
    played("""
        10.0  observed 20, active 7 of milvus 3   -> standby
        99.0  observed 90, active 7 of milvus 3   -> standby
        99.1  observed 91                  -> campaigning: campaign 0
    """)


def test_an_active_key_that_nobody_can_read_is_left_alone_too() -> None:
    played("10.0  observed 20, active 7 -> standby")


def test_an_older_observation_changes_nothing() -> None:
    played("""
        10.0  observed 20, active 7 of 3, heartbeat 19  -> standby [10.75]
        10.1  observed 6                                -> standby [10.75]
    """)


def test_a_race_lost_is_over_when_the_winner_has_been_observed() -> None:
    played("""
        10.0  observed 20                                -> campaigning: campaign 0
        10.1  lost to 21 of 3, heartbeat 21              -> standby
        10.2  tick                                       -> standby
        10.3  observed 20                                -> standby
        10.4  observed 21, active 21 of 3, heartbeat 21  -> standby [11.15]
        20.0  observed 90, heartbeat 89                  -> campaigning: campaign 89
    """)


def test_a_winner_that_was_gone_again_before_it_was_observed() -> None:
    played("""
        10.0  observed 20                    -> campaigning: campaign 0
        10.1  lost to 21 of 3, heartbeat 21  -> standby
        10.3  observed 22                    -> campaigning: campaign 0
    """)


def test_a_campaign_refused_for_an_unseen_heartbeat_waits_until_it_is_seen() -> None:
    played("""
        10.0  observed 20, heartbeat 19  -> campaigning: campaign 19
        10.1  lost heartbeat 24          -> standby
        10.2  tick                       -> standby
        10.3  observed 21, heartbeat 19  -> standby
        10.4  observed 25, heartbeat 24  -> campaigning: campaign 24
    """)


def test_a_campaign_refused_because_the_heartbeat_is_gone_waits_until_that_is_seen() -> None:
    played("""
        10.0  observed 20, heartbeat 19  -> campaigning: campaign 19
        10.1  lost                       -> standby
        10.2  tick                       -> standby
        10.3  observed 21, heartbeat 19  -> standby
        10.4  observed 25                -> campaigning: campaign 0
    """)


def test_what_refused_a_campaign_may_have_been_observed_already() -> None:
    played("""
        10.0  observed 20, heartbeat 19  -> campaigning: campaign 19
        10.1  observed 25, heartbeat 24  -> campaigning
        10.2  lost heartbeat 24          -> standby [10.3]
        10.3  tick                       -> campaigning: campaign 24
    """)


# --- campaigns without an answer ------------------------------------------------------------------------


def test_a_campaign_that_cannot_be_sent_is_repeated() -> None:
    played("""
        10.0  observed 20     -> campaigning: campaign 0
        10.5  unanswered      -> standby [10.6]
        10.55 observed 21     -> standby [10.6]
        10.6  tick            -> campaigning: campaign 0
        10.7  won 22          -> activating: begin term 22
    """)


def test_an_unanswered_campaign_is_not_repeated_once_another_holds_the_role() -> None:
    played("""
        10.0  observed 20                  -> campaigning: campaign 0
        10.5  unanswered                   -> standby [10.6]
        10.55 observed 21, active 21 of 3  -> standby [11.3]
    """)


def test_an_unanswered_campaign_that_won_is_found_out_by_the_next() -> None:
    played("""
        10.0  observed 20                   -> campaigning: campaign 0
        10.5  unanswered                    -> standby [10.6]
        10.6  tick                          -> campaigning: campaign 0
        10.7  lost to 21 of 5, heartbeat 21 -> activating: begin term 21
        10.8  activated                     -> active: serve 21
    """)


def test_an_unanswered_campaign_that_won_is_found_out_by_observation() -> None:
    played("""
        10.0  observed 20                                -> campaigning: campaign 0
        10.5  unanswered                                 -> standby [10.6]
        10.55 observed 21, active 21 of 5, heartbeat 21  -> activating: begin term 21
        10.6  activated                                  -> active: serve 21
    """)


def test_an_unanswered_campaign_that_won_may_have_been_observed_before() -> None:
    played("""
        10.0  observed 20                                -> campaigning: campaign 0
        10.1  observed 21, active 21 of 5, heartbeat 21  -> campaigning
        10.5  unanswered                                 -> activating: begin term 21
    """)


def test_a_campaign_that_wins_long_after_it_was_given_up_still_waits_for_the_holder_it_followed() -> None:
    played("""
        10.0  observed 20, heartbeat 19 guard 9.0        -> campaigning: campaign 19
        10.5  unanswered                                 -> standby [10.6]
        10.55 observed 21, active 21 of 5, heartbeat 21  -> activating: begin term 21
        10.6  activated                                  -> activating [19.5]
    """)


# --- losing the role ------------------------------------------------------------------------------------


def test_another_holder_deposes_in_every_state_of_a_term() -> None:
    other = "20.0  observed 40, active 39 of 3 -> ended: end session"
    played(f"{SETTLED}\n{other} (deposed)")
    played(f"{ACTIVE}\n{other} (deposed)")
    played(f"{RESIGNING}\n{other} (stopped)")


def test_a_deleted_active_key_deposes() -> None:
    played(f"{ACTIVE}\n20.0  observed 40, heartbeat 39 -> ended: end session (deposed)")


def test_observations_from_before_the_term_do_not_depose() -> None:
    subject = played("""
        10.0  observed 20                                -> campaigning: campaign 0
        10.1  won 25                                     -> activating: begin term 25
        10.2  observed 22, active 21 of 3                -> activating
        10.3  observed 24                                -> activating
        10.4  observed 25, active 25 of 5, heartbeat 25  -> activating
        10.5  activated                                  -> active: serve 25
    """)
    assert subject.epoch == 25


def test_a_won_role_that_was_observed_to_be_lost_again_is_not_begun() -> None:
    played("""
        10.0  observed 20                -> campaigning: campaign 0
        10.1  observed 25, heartbeat 22  -> campaigning
        10.2  won 22                     -> ended: end session (deposed)
    """)


def test_a_refused_fence_deposes() -> None:
    played(f"{SETTLED}\n20.0  fence refused -> ended: end session (deposed)")
    played(f"{ACTIVE}\n20.0  fence refused -> ended: end session (deposed)")
    played(f"{RESIGNING}\n20.0  fence refused -> ended: end session (stopped)")


def test_a_lost_lease_ends_the_session_in_every_state() -> None:
    played(f"{AWAITING}\n20.0  lease lost -> ended: end session (lease lost)")
    played(f"{FREE}\n20.0  lease lost -> ended: end session (lease lost)")
    played(f"{SETTLED}\n20.0  lease lost -> ended: end session (lease lost)")
    played(f"{ACTIVE}\n20.0  lease lost -> ended: end session (lease lost)")
    played(f"{RESIGNING}\n20.0  lease lost -> ended: end session (stopped)")


# --- giving the role up ---------------------------------------------------------------------------------


def test_a_stop_gives_leadership_up_after_the_last_answer() -> None:
    played(f"""{ACTIVE}
        20.0  stop      -> resigning: drain
        20.1  drained   -> resigning: resign 2
        20.2  resigned  -> ended: end session (stopped)
    """)


def test_a_resignation_may_be_observed_before_it_is_answered() -> None:
    played(f"""{RESIGNING}
        20.1  observed 40  -> ended: end session (stopped)
        20.2  resigned     -> ended
    """)


def test_a_stop_before_a_term_ends_the_session_at_once() -> None:
    played("10.0  stop -> ended: end session (stopped)")
    played(f"{AWAITING}\n20.0  stop -> ended: end session (stopped)")
    played(f"{FREE}\n20.0  stop -> ended: end session (stopped)\n20.1  won 2 -> ended")


def test_a_stop_while_activating_releases_the_role_if_nobody_else_may_still_answer() -> None:
    played(f"""{SETTLED}
        20.0  stop       -> resigning: drain
        20.0  activated  -> resigning
        20.1  drained    -> resigning: resign 2
        20.2  resigned   -> ended: end session (stopped)
    """)


def test_a_stop_within_the_previous_holders_guard_leaves_the_heartbeat_to_warn_the_next() -> None:
    played(f"{TAKING_OVER}\n12.0  stop -> ended: end session (stopped)")


def test_a_failed_activation_gives_leadership_up_for_another_replica() -> None:
    played(f"""{SETTLED}
        20.0  activation failed  -> resigning: drain
        20.1  drained            -> resigning: resign 2
        20.2  resigned           -> ended: end session (activation failed)
    """)


def test_a_failed_activation_within_the_previous_holders_guard_leaves_the_heartbeat() -> None:
    played(f"{TAKING_OVER}\n12.0  activation failed -> ended: end session (activation failed)")


def test_time_that_any_event_tells_settles() -> None:
    played(f"""{TAKING_OVER}
        13.0  observed 23, active 22 of 5, heartbeat 22  -> activating
        13.1  activation failed                          -> resigning: drain
    """)


def test_a_stop_during_a_resignation_stays_a_stop() -> None:
    played(f"""{SETTLED}
        20.0  activation failed  -> resigning: drain
        20.1  stop               -> resigning
        20.2  activation failed  -> resigning
        20.3  drained            -> resigning: resign 2
        20.4  resigned           -> ended: end session (stopped)
    """)


# --- exclusive registration (active-standby off) --------------------------------------------------------


def test_an_exclusive_replica_tries_with_growing_pauses_and_then_gives_up() -> None:
    held = "lost to 7 of 3, heartbeat 19"
    played(f"""
        10.0  observed 20, active 7 of 3, heartbeat 19  -> campaigning: campaign 19
        10.0  {held}  -> standby [10.2]
        10.1  observed 21, active 7 of 3, heartbeat 21  -> standby [10.2]
        10.2  tick    -> campaigning: campaign 21
        10.2  {held}  -> standby [10.6]
        10.6  tick    -> campaigning: campaign 21
        10.6  {held}  -> standby [11.4]
        11.4  tick    -> campaigning: campaign 21
        11.4  {held}  -> standby [13.0]
        13.0  tick    -> campaigning: campaign 21
        13.0  {held}  -> standby [16.0]
        16.0  tick    -> campaigning: campaign 21
        16.0  {held}  -> standby [19.0]
        19.0  tick    -> campaigning: campaign 21
        19.0  {held}  -> ended: end session (exclusive key held by another process)
    """, exclusive=True, exclusive_attempts=6)  # fmt: skip


def test_an_exclusive_replica_takes_a_role_that_becomes_free_at_its_next_try() -> None:
    played("""
        10.0  observed 20, active 7 of 3, heartbeat 19  -> campaigning: campaign 19
        10.0  lost to 7 of 3, heartbeat 19              -> standby [10.2]
        10.1  observed 21, heartbeat 19                 -> standby [10.2]
        10.2  tick                                      -> campaigning: campaign 19
        10.3  won 22                                    -> activating: begin term 22
    """, exclusive=True)  # fmt: skip


def test_an_exclusive_replicas_unanswered_campaigns_do_not_count() -> None:
    played("""
        10.0  observed 20  -> campaigning: campaign 0
        10.5  unanswered   -> standby [10.6]
        10.6  tick         -> campaigning: campaign 0
        11.1  unanswered   -> standby [11.2]
    """, exclusive=True, exclusive_attempts=0)  # fmt: skip


# --- what cannot happen ---------------------------------------------------------------------------------

ALWAYS = {
    "10.9  observed 1", "10.9  gone 7", "10.9  probe committed", "10.9  probe failed", "10.9  lease lost",
    "10.9  stop", "10.9  tick",
}  # fmt: skip
ANSWERS = {"10.9  won 2", "10.9  lost to 2 of 3", "10.9  unanswered"}
ACTIVATION = {"10.9  activated", "10.9  activation failed"}
TERM = {"10.9  fence refused", "10.9  asked"}
HANDED = {"10.9  handed over", "10.9  handover refused", "10.9  handover unknown"}
EVERY_EVENT = ALWAYS | ANSWERS | ACTIVATION | TERM | HANDED | {"10.9  drained", "10.9  resigned"}
IN_EVERY_STATE = {
    ev.State.STANDBY: AWAITING,
    ev.State.CAMPAIGNING: FREE,
    ev.State.ACTIVATING: SETTLED,
    ev.State.ACTIVE: ACTIVE,
    ev.State.OFFERING: OFFERING,
    ev.State.HANDING_OVER: PASSING_ON,
    ev.State.RESIGNING: RESIGNING,
    ev.State.ENDED: ACTIVE + "\n10.3  lease lost -> ended: end session (lease lost)",
}
POSSIBLE = {
    ev.State.STANDBY: ALWAYS,
    ev.State.CAMPAIGNING: ALWAYS | ANSWERS,
    ev.State.ACTIVATING: ALWAYS | ACTIVATION | TERM,
    ev.State.ACTIVE: ALWAYS | TERM,
    ev.State.OFFERING: ALWAYS | TERM,
    ev.State.HANDING_OVER: ALWAYS | TERM | HANDED,
    ev.State.RESIGNING: ALWAYS | ACTIVATION | TERM | {"10.9  resigned"},
    ev.State.ENDED: EVERY_EVENT,
}


def memory_of(subject: el.Election) -> dict[str, Any]:
    """All that the machine remembers."""
    return {name: getattr(subject, name) for name in el.Election.__slots__ if name != "_handlers"}


@pytest.mark.parametrize("state", ev.State)
@pytest.mark.parametrize("words", sorted(EVERY_EVENT))
def test_an_event_that_cannot_happen_raises_and_changes_nothing(state: ev.State, words: str) -> None:
    subject = played(IN_EVERY_STATE[state])
    assert subject.state is state
    before = memory_of(subject)

    if words in POSSIBLE[state]:
        subject.handle(parse(words))
        subject.check_invariants()
    else:
        with pytest.raises(el.IllegalEvent):
            subject.handle(parse(words))
        assert memory_of(subject) == before


@pytest.mark.parametrize("words", sorted(EVERY_EVENT))
def test_after_the_end_nothing_happens_any_more(words: str) -> None:
    subject = played(IN_EVERY_STATE[ev.State.ENDED])
    before = memory_of(subject)

    assert list(subject.handle(parse(words))) == []
    assert memory_of(subject) == before
    assert subject.next_deadline() is None


def test_a_resignation_cannot_be_answered_before_the_last_request_is() -> None:
    subject = played(DRAINING)

    with pytest.raises(el.IllegalEvent, match="Resigned"):
        subject.handle(ev.Resigned())

    play(subject, "20.0  drained -> resigning: resign 2")
    with pytest.raises(el.IllegalEvent, match="second time"):
        subject.handle(ev.Drained(20.0))
    play(subject, "20.1  resigned -> ended: end session (stopped)")


@pytest.mark.parametrize("words", sorted(HANDED))
def test_a_handover_cannot_be_answered_before_the_last_request_is(words: str) -> None:
    subject = played(HANDING_OVER)
    before = memory_of(subject)

    with pytest.raises(el.IllegalEvent, match="before a drain"):
        subject.handle(parse(words))
    assert memory_of(subject) == before

    play(subject, "20.0  drained -> handing over: hand over to 6 at 5")
    with pytest.raises(el.IllegalEvent, match="second time"):
        subject.handle(ev.Drained(20.0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"state": ev.State.ACTIVE, "epoch": 0}, "leading without an epoch"),
        ({"state": ev.State.STANDBY, "epoch": 2}, "an epoch without a term"),
        ({"state": ev.State.ACTIVE, "_activated": False}, "serving before activation"),
        ({"state": ev.State.RESIGNING, "_settled": False}, "within the previous holder's guard"),
        ({"state": ev.State.HANDING_OVER}, "handing over to nobody"),
        ({"prepared": 4}, "ready for an offer while leading"),
    ],
)
def test_a_machine_that_contradicts_itself_is_noticed(change: dict[str, Any], complaint: str) -> None:
    subject = played(ACTIVE)
    for name, value in change.items():
        setattr(subject, name, value)

    with pytest.raises(AssertionError, match=complaint):
        subject.check_invariants()
