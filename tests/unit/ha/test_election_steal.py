"""Taking the place of a holder that crashed or is silent; see `election_script` for the notation."""

from coordd.ha import election as el

from .election_cases import played
from .election_script import play

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


def test_a_probe_that_fails_starts_the_count_anew_however_soon_the_next_one_is_committed() -> None:
    """An etcd that comes and goes may commit each probe and none of the holder's heartbeats."""
    played(f"""{SILENT}
        11.3   tick                -> standby: probe
        11.31  probe failed        -> standby [11.56]
        11.56  tick                -> standby: probe
        11.57  probe committed     -> standby [11.81]
        12.5   tick                -> standby: probe
        12.51  probe committed     -> standby [12.75]
        13.3   tick                -> standby: probe
        13.31  probe committed     -> standby [13.55]
        14.07  tick                -> standby: probe
        14.08  probe committed     -> campaigning: steal 7 at 20
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
