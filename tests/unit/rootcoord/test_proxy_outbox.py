"""What one proxy has yet to be told: what supersedes what, and that nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.proxy_pb2 import (
    InvalidateCollMetaCacheRequest,
    InvalidateCredCacheRequest,
    RefreshPolicyInfoCacheRequest,
)
from coordd.rootcoord.proxies import outbox as module
from coordd.rootcoord.proxies.outbox import Notice, Outbox, PolicyChange


def collection(name: str, *, dropped: bool = False) -> InvalidateCollMetaCacheRequest:
    kind = MsgType.DropCollection if dropped else MsgType.AlterCollection
    return InvalidateCollMetaCacheRequest(base=MsgBase(msg_type=kind), db_name="db", collection_name=name)


def policy(change: PolicyChange, key: str = "") -> RefreshPolicyInfoCacheRequest:
    return RefreshPolicyInfoCacheRequest(opType=change, opKey=key)


def notices(outbox: Outbox) -> list[Notice]:
    return [entry.notice for entry in outbox.pending()]


def filled(*added: Notice) -> Outbox:
    outbox = Outbox()
    for notice in added:
        outbox.add(notice)
    return outbox


def test_a_collection_is_to_be_forgotten_once_however_often_it_changed() -> None:
    outbox = filled(collection("a"), collection("b"), collection("a"))
    assert notices(outbox) == [collection("a"), collection("b")]
    assert outbox.owes_collections


def test_a_drop_is_another_notice_because_it_closes_the_proxys_stream_too() -> None:
    outbox = filled(collection("a"), collection("a", dropped=True))
    assert notices(outbox) == [collection("a"), collection("a", dropped=True)]


def test_a_change_while_the_notice_of_the_one_before_is_on_its_way_is_told_again() -> None:
    outbox = filled(collection("a"))
    [on_its_way] = outbox.pending()
    outbox.add(collection("a"))
    outbox.delivered(on_its_way)
    assert notices(outbox) == [collection("a")]
    outbox.delivered(outbox.pending()[0])
    assert not outbox.owes_collections


def test_of_a_user_only_the_newest_notice_counts() -> None:
    forget = InvalidateCredCacheRequest(username="u")
    outbox = filled(forget, forget)
    [on_its_way] = outbox.pending()
    outbox.add(forget)
    outbox.delivered(on_its_way)
    [newest] = outbox.pending()
    assert newest.notice == forget
    outbox.delivered(newest)
    assert not outbox.owes_permissions


def test_the_password_that_was_changed_last_is_told_first() -> None:
    """A new term has those of all users forgotten; one that changes then must not wait for all of them."""
    outbox = filled(*(InvalidateCredCacheRequest(username=name) for name in "abc"))
    outbox.add(InvalidateCredCacheRequest(username="a"))
    assert [entry.notice.username for entry in outbox.pending()] == ["a", "c", "b"]  # type: ignore[union-attr]


def test_policy_operations_keep_their_order_and_equal_ones_stay() -> None:
    add, remove = (
        policy(PolicyChange.ADD_USER_TO_ROLE, "u/r"),
        policy(PolicyChange.REMOVE_USER_FROM_ROLE, "u/r"),
    )
    outbox = filled(add, remove, add)
    assert notices(outbox) == [add, remove, add]
    outbox.delivered(outbox.pending()[0])
    assert notices(outbox) == [remove, add]


def test_reading_all_policies_anew_replaces_what_went_before() -> None:
    refresh, grant = policy(PolicyChange.REFRESH), policy(PolicyChange.GRANT, "{}")
    assert notices(filled(grant, grant, refresh, grant)) == [refresh, grant]


def test_many_policy_operations_become_one_refresh() -> None:
    grants = [policy(PolicyChange.GRANT, str(number)) for number in range(module.MAX_POLICY_NOTICES)]
    outbox = filled(*grants)
    assert notices(outbox) == grants
    outbox.add(policy(PolicyChange.GRANT, "one more"))
    assert notices(outbox) == [policy(PolicyChange.REFRESH)]


def test_a_refused_policy_operation_becomes_a_refresh_and_a_refused_refresh_stays() -> None:
    outbox = filled(policy(PolicyChange.GRANT, "not JSON"), policy(PolicyChange.DROP_ROLE, "r"))
    outbox.refused(outbox.pending()[0])
    [refresh] = outbox.pending()
    assert refresh.notice == policy(PolicyChange.REFRESH)
    outbox.refused(refresh)
    assert outbox.pending() == [refresh]


def test_another_notice_that_is_refused_stays() -> None:
    outbox = filled(collection("a"), InvalidateCredCacheRequest(username="u"))
    before = outbox.pending()
    for entry in before:
        outbox.refused(entry)
    assert outbox.pending() == before


def test_too_many_collections_are_given_up_for_good() -> None:
    outbox = filled(*(collection(str(number)) for number in range(module.MAX_COLLECTIONS)))
    assert not outbox.given_up
    outbox.add(collection("0"))
    assert not outbox.given_up
    outbox.add(collection("one more"))
    assert outbox.given_up
    assert outbox.owes_collections
    assert notices(outbox) == []
    outbox.add(collection("later"))
    assert notices(outbox) == []


NOTICES = st.one_of(
    st.builds(collection, st.sampled_from("abc"), dropped=st.booleans()),
    st.builds(lambda user: InvalidateCredCacheRequest(username=user), st.sampled_from("uv")),
    st.builds(policy, st.sampled_from(PolicyChange), st.sampled_from(["x", "y"])),
)


@given(st.lists(st.one_of(NOTICES, st.integers(0, 9), st.just("refused"))))
def test_what_was_added_last_reaches_the_proxy(steps: list[Notice | int | str]) -> None:
    """The proxy's caches, whatever is added while something is on its way, end up as the last notices say."""
    outbox, told, last = Outbox(), [], {}
    for step in steps:
        entries = outbox.pending()
        if step == "refused":
            for entry in entries[:1]:
                outbox.refused(entry)
        elif isinstance(step, int):
            for entry in entries[step : step + 1]:
                told.append(entry.notice)
                outbox.delivered(entry)
        elif not isinstance(step, str):
            outbox.add(step)
            match step:
                case InvalidateCollMetaCacheRequest():
                    last["forget", step.base.msg_type, step.collection_name] = step
                case RefreshPolicyInfoCacheRequest():
                    last["policy"] = step
                case _:
                    last["user", step.username] = step
    told += notices(outbox)
    for key, notice in last.items():
        if key == "policy":
            assert any(one in (notice, policy(PolicyChange.REFRESH)) for one in told)
        elif key[0] == "user":
            of_user = [one for one in told if getattr(one, "username", None) == key[1]]
            assert of_user[-1] == notice
        else:
            assert notice in told


def test_a_withheld_password_bars_until_the_newest_word_of_it_is_taken_in() -> None:
    forget = InvalidateCredCacheRequest(username="u")
    outbox = filled(forget, InvalidateCredCacheRequest(username="v"))
    assert not outbox.bars
    assert outbox.withhold("u")
    assert outbox.bars
    [other, on_its_way] = outbox.pending()
    outbox.add(forget)
    outbox.delivered(on_its_way)
    outbox.delivered(other)
    assert outbox.bars
    [newest] = outbox.pending()
    outbox.delivered(newest)
    assert not outbox.bars


def test_a_password_that_was_taken_in_is_not_withheld() -> None:
    outbox = filled(InvalidateCredCacheRequest(username="u"))
    outbox.delivered(outbox.pending()[0])
    assert not outbox.withhold("u")
    assert not outbox.bars
