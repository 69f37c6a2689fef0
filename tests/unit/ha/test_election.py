"""The election, told as transcripts; see `election_script` for the notation."""

from typing import Any

import pytest

from coordd.ha import election as el
from coordd.ha import election_events as ev

from .election_script import parse, play

ME = 5
"""Server ID of the replica under test; its guard is 2 s, its margin 0.5 s."""

CRASHED_HOLDER = """
    10.0  observed 20, active 7 of 3, heartbeat 19 guard 2.0  -> standby [10.75]
    11.0  observed 21, heartbeat 19 guard 2.0                 -> campaigning: campaign 19
"""
TAKING_OVER = CRASHED_HOLDER + "11.1  won 22 -> activating: begin term 22"
FREE = "10.0  observed 1 -> campaigning: campaign 0"
SETTLED = FREE + "\n10.1  won 2 -> activating: begin term 2"
ACTIVE = SETTLED + "\n10.2  activated -> active: serve 2"
DRAINING = ACTIVE + "\n10.3  stop -> resigning: drain"
RESIGNING = DRAINING + "\n10.4  drained -> resigning: resign 2"

OURS = "active 2 of 5, heartbeat 2"
HELD = "active 7 of 3, heartbeat 20"
AWAITING = "10.0  observed 20, active 7 of 3, heartbeat 19 -> standby [10.75]"


def election(*, exclusive: bool = False, exclusive_attempts: int = 30) -> el.Election:
    return el.Election(
        el.ElectionSettings(
            server_id=ME, serve_guard_s=2.0, margin_s=0.5, exclusive=exclusive,
            exclusive_attempts=exclusive_attempts,
        )
    )  # fmt: skip


def played(script: str, **settings: Any) -> el.Election:
    subject = election(**settings)
    play(subject, script)
    return subject


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


# --- taking the place of a holder that crashed ----------------------------------------------------------


def test_a_crashed_holders_place_is_taken_at_once_if_nobody_before_it_can_answer() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19 guard 2.0, standbys 5  -> standby [10.75]
        10.2   gone 7                  -> campaigning: steal 7 at 19
        10.21  won 22                  -> activating: begin term 22 (crash)
        10.22  activated               -> active: serve 22
    """)


def test_a_holder_that_crashed_before_it_was_settled_is_waited_for_as_if_it_had_been_silent() -> None:
    subject = played("""
        10.0   observed 20, active 7 of 3, heartbeat 19 guard 4.0 unsettled, standbys 5  -> standby [10.75]
        10.2   gone 7                  -> campaigning: steal 7 at 19
        10.21  won 22                  -> activating: begin term 22 (crash)
        10.22  activated               -> activating [14.5]
    """)
    assert subject.promise(10.22) == el.Promise(4.0, settled=False)

    play(subject, "14.5  tick -> active: serve 22")


def test_evidence_may_come_before_the_holder_is_observed() -> None:
    played("""
        10.0  gone 7                                                 -> standby
        10.1  observed 20, active 7 of 3, heartbeat 19               -> campaigning: steal 7 at 19
    """)


def test_evidence_about_an_earlier_holder_means_nothing() -> None:
    played("""
        10.0  observed 20, active 8 of 4, heartbeat 19               -> standby [10.75]
        10.1  gone 7                                                 -> standby [10.75]
    """)
    played("""
        10.0  observed 20, active 8 of 4, heartbeat 19               -> standby [10.75]
        10.1  gone 8                                                 -> campaigning: steal 8 at 19
        10.2  unanswered                                             -> standby [10.3]
        10.25 gone 7                                                 -> standby [10.3]
        10.3  tick                                                   -> campaigning: steal 8 at 19
    """)


def test_a_milvus_holder_is_not_stolen_from_whatever_is_said_of_it() -> None:
    played("""
        10.0  observed 20, active 7 of milvus 3, heartbeat 19 guard 2.0  -> standby
        10.1  gone 7                                                     -> standby
        99.0  tick                                                       -> standby
        99.1  probe committed                                            -> standby
    """)


def test_standbys_with_lower_server_ids_go_first() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19, standbys 1 4 5 6  -> standby [10.75]
        10.2   gone 7                                                      -> standby [10.22]
        10.21  tick                                                        -> standby [10.22]
        10.22  tick                                                        -> campaigning: steal 7 at 19
    """)
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19, standbys 1 4 5 6            -> standby [10.75]
        10.2   gone 7                                                                -> standby [10.22]
        10.21  observed 21, active 21 of 1, heartbeat 21, standbys 4 5 6             -> standby [10.96]
    """)


def test_a_tie_is_over_with_the_first_campaign() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19, standbys 5 6      -> standby [10.75]
        10.2   gone 7                                                      -> campaigning: steal 7 at 19
        10.21  lost to 21 of 6, heartbeat 21                               -> standby
        10.22  observed 21, active 21 of 6, heartbeat 21, standbys 5       -> standby [10.97]
    """)


def test_a_steal_refused_for_the_crashed_holders_last_heartbeat_waits_only_for_the_watch() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19                    -> standby [10.75]
        10.2   gone 7                                                      -> campaigning: steal 7 at 19
        10.21  lost to 7 of 3, heartbeat 22                                -> standby
        10.22  observed 21, active 7 of 3, heartbeat 19                    -> standby
        10.23  observed 22, active 7 of 3, heartbeat 22                    -> campaigning: steal 7 at 22
    """)


def test_a_steal_refused_because_the_key_had_gone_is_not_repeated_until_that_is_seen() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 19                    -> standby [10.75]
        10.2   gone 7                                                      -> campaigning: steal 7 at 19
        10.21  lost heartbeat 19                                           -> standby
        10.22  observed 21, active 7 of 3, heartbeat 19                    -> standby
        10.23  observed 22, heartbeat 19                                   -> campaigning: campaign 19
    """)


def test_an_unanswered_steal_is_repeated() -> None:
    played("""
        10.0  observed 20, active 7 of 3, heartbeat 19                    -> standby [10.75]
        10.2  gone 7                                                      -> campaigning: steal 7 at 19
        10.7  unanswered                                                  -> standby [10.8]
        10.8  tick                                                        -> campaigning: steal 7 at 19
        10.9  lost to 21 of 5, heartbeat 21                               -> activating: begin term 21 (crash)
    """)


def test_an_heir_that_crashed_before_its_first_heartbeat_leaves_nobody_to_wait_for() -> None:
    played("""
        10.0   observed 20, active 20 of 3                                -> standby [10.75]
        10.01  gone 20                                                    -> campaigning: steal 20 at 0
        10.02  won 21                                                     -> activating: begin term 21 (crash)
        10.03  activated                                                  -> active: serve 21
    """)


# --- taking the place of a holder that is silent --------------------------------------------------------

SILENT = """
    10.0   observed 20, active 7 of 3, heartbeat 20 guard 2.0  -> standby [10.75]
    10.75  tick                    -> standby: probe
    10.76  probe committed         -> standby [11.0]
    11.0   tick                    -> standby: probe
    11.01  probe committed         -> standby [11.25]
"""


def test_a_silent_holders_place_is_taken_when_its_guard_has_run_out_and_etcd_has_just_committed() -> None:
    played(f"""{SILENT}
        11.9   tick                -> standby: probe
        11.91  probe committed     -> standby [12.15]
        12.5   tick                -> standby: probe
        12.51  probe committed     -> campaigning: steal 7 at 20
        12.52  won 23              -> activating: begin term 23 (silence)
        12.53  activated           -> active: serve 23
    """)


def test_a_probe_that_was_late_is_repeated_before_anything_is_taken() -> None:
    played(f"""{SILENT}
        11.9   tick                -> standby: probe
        11.95  probe committed     -> standby [12.15]
        12.3   tick                -> standby: probe
        12.49  probe committed     -> standby [12.5]
        12.5   tick                -> standby: probe
        12.6   probe committed     -> campaigning: steal 7 at 20
    """)


def test_a_heartbeat_starts_the_count_of_silence_anew() -> None:
    played(f"""{SILENT}
        12.4   observed 24, active 7 of 3, heartbeat 24 guard 2.0  -> standby [13.15]
        12.5   tick                -> standby [13.15]
    """)


def test_a_gap_in_which_etcd_committed_nothing_starts_the_count_anew() -> None:
    played(f"""{SILENT}
        11.3   tick                -> standby: probe
        12.9   probe committed     -> standby [11.55]
        13.0   tick                -> standby: probe
        13.15  tick                -> standby
        13.16  probe committed     -> standby [13.25]
        13.9   tick                -> standby: probe
        14.0   probe committed     -> standby [14.15]
        14.7   tick                -> standby: probe
        14.8   probe committed     -> standby [14.95]
        15.4   tick                -> standby: probe
        15.41  probe committed     -> campaigning: steal 7 at 20
    """)


def test_probes_that_fail_at_once_are_not_repeated_at_once_however_long_the_silence() -> None:
    played(f"""{SILENT}
        60.0   tick                -> standby: probe
        60.01  probe failed        -> standby [60.26]
        60.02  tick                -> standby [60.26]
        60.26  tick                -> standby: probe
        60.27  probe failed        -> standby [60.52]
    """)


def test_a_silent_holder_that_was_not_settled_is_silent_for_as_long_as_it_says() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 20 guard 1.0 unsettled  -> standby [10.75]
        10.75  tick                -> standby: probe
        10.76  probe committed     -> standby [11.0]
        11.5   tick                -> standby: probe
        11.51  probe committed     -> campaigning: steal 7 at 20
        11.52  won 23              -> activating: begin term 23 (silence)
        11.53  activated           -> active: serve 23
    """)


def test_a_holder_that_never_sent_a_heartbeat_is_silent_after_our_own_guard() -> None:
    played("""
        10.0   observed 20, active 20 of 3  -> standby [10.75]
        10.8   tick                -> standby: probe
        10.9   probe committed     -> standby [11.05]
        11.7   tick                -> standby: probe
        11.8   probe committed     -> standby [11.95]
        12.5   tick                -> standby: probe
        12.51  probe committed     -> campaigning: steal 20 at 0
    """)


def test_an_unanswered_campaign_for_a_silent_holders_place_starts_the_count_anew() -> None:
    played(f"""{SILENT}
        11.9   tick                -> standby: probe
        11.91  probe committed     -> standby [12.15]
        12.5   tick                -> standby: probe
        12.51  probe committed     -> campaigning: steal 7 at 20
        13.0   unanswered          -> standby [12.5]
        13.1   tick                -> standby: probe
        13.2   probe committed     -> standby [13.35]
        13.3   tick                -> standby [13.35]
    """)


def test_a_campaign_against_silence_that_a_late_heartbeat_refused_waits_for_the_watch() -> None:
    played(f"""{SILENT}
        11.9   tick                               -> standby: probe
        11.91  probe committed                    -> standby [12.15]
        12.5   tick                               -> standby: probe
        12.51  probe committed                    -> campaigning: steal 7 at 20
        12.6   lost to 7 of 3, heartbeat 25       -> standby
        20.0   tick                               -> standby
        20.1   observed 25, active 7 of 3, heartbeat 25 guard 2.0  -> standby [20.85]
    """)


def test_standbys_with_lower_server_ids_find_a_holder_silent_first() -> None:
    played("""
        10.0   observed 20, active 7 of 3, heartbeat 20 guard 1.0, standbys 1 4 5 6  -> standby [10.75]
        10.75  tick                -> standby: probe
        10.76  probe committed     -> standby [11.0]
        11.5   tick                -> standby: probe
        11.51  probe committed     -> standby [11.52]
        11.52  tick                -> standby: probe
        11.53  probe committed     -> campaigning: steal 7 at 20
    """)


def test_nobodys_silence_means_anything_to_an_exclusive_replica() -> None:
    subject = played(
        "10.0  observed 20, active 7 of 3, heartbeat 19 -> campaigning: campaign 19", exclusive=True
    )

    play(subject, """
        10.1  lost to 7 of 3, heartbeat 19  -> standby [10.3]
        10.2  tick                          -> standby [10.3]
        10.3  tick                          -> campaigning: campaign 19
        10.4  gone 7                        -> campaigning
    """)  # fmt: skip


# --- passing leadership on ------------------------------------------------------------------------------

LEADING = (
    SETTLED
    + """
10.2  activated                                                                       -> active: serve 2
10.3  observed 3, active 2 of 5, heartbeat 2, standbys 6@1 7@3                       -> active
"""
)
OFFERING = LEADING + "11.0  asked -> offering: offer [12.0]"
HANDING_OVER = (
    OFFERING
    + """
11.01  observed 5, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@5/4 7@3       -> handing over: drain
"""
)
PASSING_ON = HANDING_OVER + "11.02  drained -> handing over: hand over to 6 at 5"


def test_leadership_is_handed_to_the_first_standby_that_is_ready() -> None:
    subject = played(f"""{PASSING_ON}
        11.03  handed over         -> ended: end session (handed over)
    """)
    assert subject.heir == 6


def test_the_first_to_answer_is_the_one_that_wrote_first() -> None:
    played(f"""{OFFERING}
        11.01 observed 9, {OURS}, offer 4 by 5, standbys 6@9/4 7@8/4 -> handing over: drain
        11.02  drained             -> handing over: hand over to 7 at 8
    """)


def test_the_watch_may_tell_of_the_handover_before_its_answer_does() -> None:
    played(f"""{PASSING_ON}
        11.03  fence refused       -> handing over
        11.04 observed 9, active 9 of 6, standbys 5 7 -> ended: end session (handed over)
        11.05  handed over         -> ended
    """)


def test_a_role_that_somebody_else_took_meanwhile_was_not_handed_over() -> None:
    played(f"{PASSING_ON}\n11.03  observed 9, active 9 of 7, standbys 5 6 -> ended: end session (deposed)")
    played(f"{HANDING_OVER}\n11.03  observed 9, active 9 of 6, standbys 5 7 -> ended: end session (deposed)")
    played(f"{HANDING_OVER}\n11.03  fence refused -> ended: end session (deposed)")


def test_only_the_standby_asked_for_inherits() -> None:
    played(f"""{LEADING}
        11.0   asked for 7         -> offering: offer to 7 [12.0]
        11.01 observed 5, active 2 of 5, heartbeat 2, offer 4 by 5 to 7, standbys 6@5/4 7@3 -> offering [12.0]
        11.02 observed 6, {OURS}, offer 4 by 5 to 7, standbys 6@5/4 7@6/4 -> handing over: drain
        11.03  drained             -> handing over: hand over to 7 at 6
    """)


def test_a_handover_that_cannot_be_is_refused_with_the_reason() -> None:
    played(f"{LEADING}\n11.0  asked for 8 -> active: refuse (unknown standby)")
    played(f"{LEADING}\n11.0  asked for 5 -> active: refuse (unknown standby)")
    played(f"{ACTIVE}\n11.0  asked -> active: refuse (no standby)")
    played(f"{SETTLED}\n11.0  asked -> activating: refuse (not serving)")
    played(f"{OFFERING}\n11.0  asked -> offering: refuse (busy) [12.0]")
    played(f"{HANDING_OVER}\n11.1  asked -> handing over: refuse (busy)")
    played(f"{RESIGNING}\n11.1  asked -> resigning: refuse (busy)")


def test_an_offer_that_nobody_answers_is_withdrawn() -> None:
    played(f"""{OFFERING}
        11.5   tick                -> offering [12.0]
        12.0   tick                -> active: withdraw offer, refuse (not ready)
        12.1   asked               -> offering: offer [13.1]
    """)


def test_an_answer_to_another_offer_is_none() -> None:
    played(f"""{OFFERING}
        11.1 observed 5, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@5/3 7@3 -> offering [12.0]
        11.2 observed 6, active 2 of 5, heartbeat 2, standbys 6@5/3 7@3 -> offering [12.0]
    """)


def test_an_offer_ends_when_nobody_is_left_to_answer_it() -> None:
    played(f"{OFFERING}\n11.1 observed 5, {OURS}, offer 4 by 5 -> active: withdraw offer, refuse (failed)")
    played(f"""{LEADING}
        11.0   asked for 7         -> offering: offer to 7 [12.0]
        11.1 observed 5, {OURS}, offer 4 by 5 to 7, standbys 6@5 -> active: withdraw offer, refuse (failed)
    """)


def test_requests_that_do_not_end_call_a_handover_off() -> None:
    played(f"{HANDING_OVER}\n11.9  drained in part -> active: reopen, withdraw offer, refuse (not drained)")


def test_an_heir_that_was_gone_calls_a_handover_off() -> None:
    played(f"{PASSING_ON}\n11.1  handover refused -> active: reopen, withdraw offer, refuse (failed)")


def test_a_handover_whose_outcome_is_unknown_is_tried_again_and_nothing_is_answered_before_it_is_known() -> (
    None
):
    played(f"""{PASSING_ON}
        12.0   handover unknown    -> handing over: hand over to 6 at 5
        60.0   handover unknown    -> handing over: hand over to 6 at 5
        60.1   tick                -> handing over
        61.0   handover refused    -> active: reopen, withdraw offer, refuse (failed)
    """)


def test_a_report_that_the_heir_wrote_again_is_the_one_compared() -> None:
    played(f"""{HANDING_OVER}
        11.1   observed 7, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@7/4 7@3       -> handing over
        11.2   drained             -> handing over: hand over to 6 at 7
    """)


def test_a_lost_lease_or_epoch_ends_an_offer() -> None:
    played(f"{OFFERING}\n11.1  lease lost -> ended: end session (lease lost)")
    played(f"{OFFERING}\n11.1  fence refused -> ended: end session (deposed)")
    played(f"{OFFERING}\n11.1  observed 9, active 9 of 7 -> ended: end session (deposed)")
    played(f"{PASSING_ON}\n11.1  lease lost -> ended: end session (lease lost)")


def test_a_stop_hands_over_if_there_is_somebody() -> None:
    played(f"""{LEADING}
        11.0   stop                -> offering: offer [12.0]
        11.01 observed 5, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@5/4 7@3 -> handing over: drain
        11.02  drained             -> handing over: hand over to 6 at 5
        11.03  handed over         -> ended: end session (handed over)
    """)


def test_a_stop_whose_offer_nobody_answers_gives_the_role_up() -> None:
    played(f"""{LEADING}
        11.0   stop                -> offering: offer [12.0]
        12.0   tick                -> resigning: refuse (not ready), drain
        12.1   drained             -> resigning: resign 2
        12.2   resigned            -> ended: end session (stopped)
    """)


def test_a_stop_during_an_offer_to_one_standby_takes_any_other_in_the_end() -> None:
    played(f"""{LEADING}
        11.0   asked for 7         -> offering: offer to 7 [12.0]
        11.1   stop                -> offering [12.0]
        12.0   tick                -> offering: refuse (not ready), offer [13.0]
        12.1 observed 9, active 2 of 5, heartbeat 2, offer 8 by 5, standbys 6@9/8 7@3 -> handing over: drain
    """)


def test_a_stop_during_a_handover_waits_for_it() -> None:
    played(f"{PASSING_ON}\n11.1  stop -> handing over\n11.2  handed over -> ended: end session (handed over)")


def test_a_stopping_replica_hands_over_even_if_requests_do_not_end() -> None:
    played(f"""{HANDING_OVER}
        11.1  stop             -> handing over
        11.9  drained in part  -> handing over: hand over to 6 at 5
    """)


def test_a_stopping_replica_looks_for_another_heir() -> None:
    played(f"""{PASSING_ON}
        11.03  stop                -> handing over
        11.04  handover refused    -> offering: reopen [12.0]
        11.05 observed 8, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 7@8/4 -> handing over: drain
        11.06  drained             -> handing over: hand over to 7 at 8
    """)
    played(f"""{PASSING_ON}
        11.03  stop                -> handing over
        11.04  observed 8, active 2 of 5, heartbeat 2, offer 4 by 5, standbys 6@5/4 7@8/4     -> handing over
        11.05  handover refused    -> handing over: reopen, drain
    """)


def test_a_stopping_replica_does_not_wait_for_ever_to_know_what_became_of_a_handover() -> None:
    played(f"""{PASSING_ON}
        11.03  stop                -> handing over
        12.5   handover unknown    -> handing over: hand over to 6 at 5
        13.1   handover unknown    -> ended: end session (stopped)
    """)


# --- inheriting -----------------------------------------------------------------------------------------

PREPARED = """
    10.0   observed 20, active 7 of 3, heartbeat 20, standbys 4 5                         -> standby [10.75]
    10.1 observed 21, active 7 of 3, heartbeat 20, offer 21 by 3, standbys 4 5 -> standby: prepare 21 [10.75]
"""


def test_an_heir_serves_at_once() -> None:
    subject = played(f"""{PREPARED}
        10.2   observed 24, active 24 of 5, standbys 3 4   -> activating: begin term 24 (handover)
        10.3   activated                                   -> active: serve 24
    """)
    assert subject.promise(10.3) == el.Promise(2.0, settled=True)


def test_an_offer_to_somebody_else_is_none_of_our_business() -> None:
    played(
        "10.0  observed 21, active 7 of 3, heartbeat 20, offer 21 by 3 to 4, standbys 4 5 -> standby [10.75]"
    )
    played("10.0  observed 21, active 7 of 3, heartbeat 20, offer 21 by 9, standbys 4 5 -> standby [10.75]")


def test_readiness_ends_with_the_offer() -> None:
    played(f"""{PREPARED}
        10.2 observed 22, active 7 of 3, heartbeat 20, standbys 4 5 -> standby: unprepare [10.75]
        10.3 observed 23, {HELD}, offer 23 by 3 to 5, standbys 4 5 -> standby: prepare 23 [10.75]
        10.4 observed 24, {HELD}, offer 24 by 3 to 5, standbys 4 5 -> standby: prepare 24 [10.75]
        10.5 observed 25, active 25 of 4, standbys 3 5 -> standby: unprepare [11.25]
    """)


def test_a_holder_that_crashes_during_its_offer_is_stolen_from() -> None:
    played(f"""{PREPARED}
        10.2   gone 7                                                                     -> standby [10.21]
        10.21 tick -> campaigning: steal 7 at 20
        10.22  lost to 24 of 4, heartbeat 24                                              -> standby
        10.23 observed 24, active 24 of 4, heartbeat 24 -> standby: unprepare [10.98]
    """)


def test_a_campaign_may_find_that_we_have_inherited() -> None:
    played(f"""{PREPARED}
        10.2   gone 7                                                                     -> standby [10.21]
        10.21 tick -> campaigning: steal 7 at 20
        10.22 lost to 24 of 5 -> activating: begin term 24 (handover)
    """)


def test_a_vacancy_is_taken_without_an_order_to_stop_listening_first() -> None:
    played(f"""
        10.0   observed 20, active 7 of 3, heartbeat 20, standbys 5                       -> standby [10.75]
        10.1 observed 21, {HELD}, offer 21 by 3, standbys 5 -> standby: prepare 21 [10.75]
        10.2 observed 22, standbys 5 -> campaigning: campaign 0
    """)


def test_an_offer_that_came_during_a_campaign_is_seen_after_it() -> None:
    played("""
        10.0 observed 20, heartbeat 19, standbys 5 -> campaigning: campaign 19
        10.1   observed 22, active 21 of 3, heartbeat 21, offer 22 by 3, standbys 5       -> campaigning
        10.2 lost to 21 of 3, heartbeat 21 -> standby: prepare 22 [10.85]
    """)


def test_a_prepared_standby_that_is_stopped_ends_its_session() -> None:
    played(f"{PREPARED}\n10.2  stop -> ended: end session (stopped)")


def test_an_heir_that_holds_no_offer_any_more_is_still_the_heir() -> None:
    played(f"""{PREPARED}
        10.2 observed 22, active 7 of 3, heartbeat 20, standbys 4 5 -> standby: unprepare [10.75]
        10.3 observed 24, active 24 of 5, standbys 3 4 -> activating: begin term 24 (handover)
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
