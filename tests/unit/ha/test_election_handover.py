"""Passing leadership on, from both sides; see `election_script` for the notation."""

from coordd.ha import election as el

from .election_cases import (
    ACTIVE,
    HANDING_OVER,
    HELD,
    LEADING,
    OFFERING,
    OURS,
    PASSING_ON,
    RESIGNING,
    SETTLED,
    played,
)

# --- the holder -----------------------------------------------------------------------------------------


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
