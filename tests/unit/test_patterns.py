"""Patterns of events against an oracle that tries every split, and what is no pattern."""

from __future__ import annotations

import time

import pytest
from happenings import Happenings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordinator import ConfigurationError
from coordinator.events import EphemeralEvent, EphemeralRecreated, SessionEvent, SessionResumed, ZnodeDeleted
from coordinator.testing import event, match_events, some, times, unordered
from coordinator.testing.patterns import Comparison, EventPattern, Times, Unordered, parse

make = Happenings()


def recreated(*paths: str) -> list[EphemeralRecreated]:
    return [make(EphemeralRecreated, path=path) for path in paths]


def fits(events, *pattern, **how) -> bool:
    try:
        match_events(events, *pattern, **how)
    except AssertionError:
        return False
    return True


# -- against the oracle

LETTERS = "abc"
letters = st.sampled_from(LETTERS).map(lambda letter: event("ephemeral.recreated", path=letter))
patterns = st.lists(
    st.recursive(
        letters | st.just(...) | st.just(EphemeralRecreated) | st.just("ephemeral.*"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(lambda them: unordered(*them))
            | st.tuples(st.integers(0, 2), inner).map(lambda both: times(*both))
            | inner.map(some)
        ),
        max_leaves=5,
    ),
    max_size=4,
)


def oracle(pattern, word: str) -> bool:
    """Whether the pattern is all of the word: try whatever the first element could be."""
    if not pattern:
        return not word
    first, rest = pattern[0], pattern[1:]
    return any(holds(first, word[:cut]) and oracle(rest, word[cut:]) for cut in range(len(word) + 1))


def holds(element, word: str) -> bool:
    if element is ...:
        return True
    if isinstance(element, str | type):
        return len(word) == 1
    if isinstance(element, EventPattern):
        return word == element.fields["path"]
    if isinstance(element, Unordered):
        return shuffled(element.branches, word)
    if isinstance(element, Times):
        # More than one for each letter would have to be empty: it may then be left out.
        most = max(element.least, len(word)) if element.most is None else element.most
        return any(oracle([element.element] * count, word) for count in range(element.least, most + 1))
    return oracle(element, word)


def shuffled(branches, word: str) -> bool:
    """Give each letter to the first branch, or leave it to the others: every way there is."""
    if not branches:
        return not word
    for choice in range(2 ** len(word)):
        mine = "".join(letter for place, letter in enumerate(word) if choice >> place & 1)
        theirs = "".join(letter for place, letter in enumerate(word) if not choice >> place & 1)
        if holds(branches[0], mine) and shuffled(branches[1:], theirs):
            return True
    return False


@settings(max_examples=400, deadline=None, database=None)
@given(patterns, st.text(LETTERS, max_size=5))
@example([some(...), "ephemeral.*"], "a")
@example([unordered([some("ephemeral.*"), ...], "ephemeral.*")], "ab")
@example([some(unordered("ephemeral.*", "ephemeral.*"))], "abc")
@example([some(unordered("ephemeral.*", "ephemeral.*"))], "abca")
def test_it_matches_what_the_oracle_matches(pattern, word):
    assert fits(recreated(*word), *pattern) == oracle(pattern, word)


@settings(max_examples=200, deadline=None, database=None)
@given(patterns, st.text(LETTERS, max_size=5))
def test_it_gives_up_only_where_nothing_could_still_help(pattern, word):
    """Whatever fits as a whole never failed half-way; and it is complete wherever a prefix fits."""
    comparison = Comparison(parse(pattern))
    for read, one in enumerate(recreated(*word)):
        assert comparison.complete == (not comparison.failed and oracle(pattern, word[:read]))
        if comparison.failed:
            assert not any(oracle(pattern, word[:longer]) for longer in range(read, len(word) + 1))
            return
        comparison.read(one)


def test_ignored_events_are_passed_over_wherever_they_are():
    events = [make(ZnodeDeleted), *recreated("/a"), make(ZnodeDeleted), *recreated("/b"), make(ZnodeDeleted)]
    pattern = ["ephemeral.*", "ephemeral.*"]
    assert not fits(events, *pattern)
    for ignoring in ("znode.*", ZnodeDeleted, event("znode.*", path="/z"), [ZnodeDeleted, "session.*"]):
        assert fits(events, *pattern, ignoring=ignoring)
    assert not fits(events, *pattern, ignoring=event("znode.*", path="/elsewhere"))


# -- the elements


def test_a_class_stands_for_its_subclasses():
    resumed = make(SessionResumed)
    assert fits([resumed], SessionEvent)
    assert not fits([resumed], EphemeralEvent)


def test_a_kind_is_the_whole_kind():
    resumed = make(SessionResumed)
    assert fits([resumed], "session.resumed")
    assert fits([resumed], "session.*")
    assert fits([resumed], "*.resumed")
    assert not fits([resumed], "session.established")


def test_fields_are_equal_or_satisfy_a_predicate():
    (one,) = recreated("/a")
    assert fits([one], event("ephemeral.*", path="/a", czxid=lambda czxid: czxid == 7))
    assert not fits([one], event("ephemeral.*", path="/b", czxid=lambda czxid: czxid == 7))
    assert not fits([one], event("ephemeral.*", path="/a", czxid=lambda czxid: czxid > 7))
    assert not fits([make(SessionResumed)], event("*", path="/a")), "a field that it does not have"


def test_many_that_are_told_apart_are_quick():
    """Twenty in any order are twenty states, not a million, where each event fits one of them."""
    paths = [f"/{number}" for number in range(20)]
    began = time.monotonic()
    match_events(recreated(*reversed(paths)), unordered(*(event("*", path=path) for path in paths)))
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: parse(["session.expird"]), "did you mean 'session.expired'"),
        (lambda: parse(["sesion.*"]), "no event is of kind 'sesion.*'"),
        (lambda: parse([7]), "7 in a pattern of events: expected a kind"),
        (lambda: parse([int]), "in a pattern of events"),
        (lambda: unordered(None) and parse([unordered(None)]), "None in a pattern"),
        (
            lambda: event("session.resumed", outtage=1),
            "session.resumed has no field 'outtage': did you mean 'outage'",
        ),
        (lambda: event(SessionEvent, path="/a"), "SessionEvent has no field 'path'"),
        (lambda: times(-1, "*"), "expected 0 or more"),
        (lambda: match_events([], ignoring=...), "take kinds, event classes or event"),
        (lambda: match_events([], ignoring=[some("*")]), "take kinds, event classes or event"),
    ],
)
def test_what_is_no_pattern_is_refused_at_once(wrong, said):
    """Rather than never to match."""
    with pytest.raises(ConfigurationError) as caught:
        wrong()
    assert said in str(caught.value)
