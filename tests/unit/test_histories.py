"""LeaseHistory: overlaps against an oracle of all pairs, what is told of them, and other processes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import ConfigurationError
from coordinator.engine import clock
from coordinator.testing import LeaseHistory, Overlap, Tenure, eventually

moments = st.integers(0, 12).map(float)
spans = st.lists(st.tuples(moments, st.none() | moments), max_size=8)
NOW = 12.0


def history(*spans) -> LeaseHistory:
    """One owner for each span: (began, ended), or (began, ended, token)."""
    made = LeaseHistory(now=lambda: NOW)
    for number, (began, ended, *token) in enumerate(spans):
        made.began(f"w-{number}", *token, at=began)
        if ended is not None:
            made.ended(f"w-{number}", at=ended)
    return made


def upright(spans):
    return [(min(span), max(span)) if span[1] is not None else span for span in spans]


# -- against the oracle


@settings(max_examples=300, deadline=None, database=None)
@given(spans.map(upright))
def test_overlaps_are_those_of_all_pairs(spans):
    """Each two that have a moment in common; the one that began before comes first."""
    expected = set()
    for (number, one), (place, other) in itertools.combinations(enumerate(spans), 2):
        begins = max(one[0], other[0])
        ends = min(NOW if end is None else end for end in (one[1], other[1]))
        if ends > begins:
            names = (f"w-{number}", f"w-{place}")
            expected.add(((names if one[0] <= other[0] else names[::-1]), begins, ends - begins))
    found = history(*spans).overlaps()
    assert {((one.first.owner, one.second.owner), one.began, one.lasted) for one in found} == expected
    assert len(found) == len(expected)
    assert [one.began for one in found] == sorted(one.began for one in found)


@settings(max_examples=300, deadline=None, database=None)
@given(spans.map(upright), moments, moments)
def test_the_share_led_is_that_of_all_instants(spans, since, until):
    """Between whole seconds nothing changes: half a second past each is a look at each of them."""
    seconds = range(int(since), int(until))
    led = [
        any(began <= second + 0.5 < (NOW if ended is None else ended) for began, ended in spans)
        for second in seconds
    ]
    expected = sum(led) / len(led) if led else 0.0
    assert history(*spans).led(since, until) == pytest.approx(expected)


@settings(max_examples=200, deadline=None, database=None)
@given(spans.map(upright), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_the_assertion_fails_where_an_overlap_is_longer_than_tolerated(spans, tolerance):
    recorded = history((0.0, 0.0), *spans)
    longest = max([one.lasted for one in recorded.overlaps()], default=0.0)
    if longest > tolerance:
        with pytest.raises(AssertionError, match=f"the longest of {longest:.3f} s"):
            recorded.assert_one_at_a_time(tolerance)
    else:
        recorded.assert_one_at_a_time(tolerance)


@settings(max_examples=200, deadline=None, database=None)
@given(spans.map(upright))
def test_lines_are_the_whole_history(spans):
    recorded = history(*spans)
    back = LeaseHistory.from_lines(recorded.to_lines(), now=lambda: NOW)
    assert back.tenures == recorded.tenures


# -- one by one


def test_one_that_begins_when_the_other_ends_does_not_overlap():
    history((0.0, 1.0), (1.0, 2.0)).assert_one_at_a_time()


def test_an_overlap_as_long_as_tolerated_is_tolerated():
    history((0.0, 2.0), (1.0, 3.0)).assert_one_at_a_time(tolerance=1.0)


def test_an_overlap_tells_who_when_and_for_how_long():
    (found,) = history((0.0, 3.0, 7), (2.0, 5.0)).overlaps()
    assert found == Overlap(Tenure("w-0", 7, 0.0, 3.0), Tenure("w-1", None, 2.0, 5.0), 2.0, 1.0)
    assert found.ended == 3.0


def test_one_that_has_not_ended_lasts_until_now():
    """Or until the last moment that was recorded, which may be of a clock further on."""
    (found,) = history((0.0, None), (2.0, None)).overlaps()
    assert found.lasted == NOW - 2.0
    (late,) = history((NOW + 1, None), (NOW + 1, None), (NOW + 5, NOW + 5)).overlaps()
    assert late.lasted == 4.0


def test_the_share_led_goes_from_the_first_beginning_to_now():
    assert history((4.0, 6.0), (5.0, 8.0)).led() == pytest.approx(4 / 8)
    assert history((4.0, 6.0)).led(since=0.0, until=4.0) == 0.0
    assert LeaseHistory().led() == 0.0


def test_what_nobody_recorded_proves_nothing():
    for claim in (LeaseHistory().assert_one_at_a_time, LeaseHistory().assert_tokens_ascend):
        with pytest.raises(AssertionError, match="nothing was recorded"):
            claim()


def test_the_failure_has_a_picture():
    """Read by people: what it says, and each owner's row to scale."""
    recorded = history((0.0, 6.0, 5), (5.0, 10.0, 9), (10.0, 12.0, 11))
    with pytest.raises(AssertionError) as caught:
        recorded.assert_one_at_a_time()
    expected = f"""
        1 overlap of leases, the longest of 1.000 s:
          w-0 (token 5) and w-1 (token 9): at 5.000 s, for 1.000 s

             0 s{"12.000 s":>59}
        w-0  |{"=" * 25}{"X" * 5}{"." * 30}|
        w-1  |{"." * 25}{"X" * 5}{"=" * 20}{"." * 10}|
        """
    assert str(caught.value).splitlines() == textwrap.dedent(expected).strip("\n").splitlines()


def test_the_picture_shows_what_is_short():
    """An overlap of a thousandth of the time is a column still, at the very end as well."""
    recorded = history((0.0, 11.999), (11.998, 12.0))
    with pytest.raises(AssertionError) as caught:
        recorded.assert_one_at_a_time()
    assert [row.count("X") for row in str(caught.value).splitlines()[-2:]] == [1, 1]


def test_many_overlaps_are_counted_and_the_first_are_shown():
    recorded = history(*[(float(second) / 10, 12.0) for second in range(20)])
    with pytest.raises(AssertionError) as caught:
        recorded.assert_one_at_a_time()
    text = str(caught.value)
    assert text.startswith("190 overlaps of leases, the longest of 11.900 s:")
    assert "  and 178 more\n" in text
    assert text.endswith("and 8 more")
    assert len(text.splitlines()) < 35


def test_tokens_ascend():
    history((0.0, 1.0, 1), (1.0, 2.0, 2), (2.0, 3.0, 30)).assert_tokens_ascend()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ((1, 2, 2), "w-2 (token 2) follows w-1 (token 2)"),
        ((5, 4), "w-1 (token 4) follows w-0 (token 5)"),
        ((5, None), "w-1 has no token"),
        ((None,), "w-0 has no token"),
    ],
)
def test_tokens_that_do_not_ascend_are_told(tokens, said):
    recorded = history(*((float(second), second + 1.0, token) for second, token in enumerate(tokens)))
    with pytest.raises(AssertionError) as caught:
        recorded.assert_tokens_ascend()
    first, _, *rows = str(caught.value).splitlines()
    assert first == f"tokens do not ascend: {said}"
    assert [row for row in rows if row.startswith(">")] == [f">     {len(tokens) - 1}.000 s  {rows[-1][15:]}"]


# -- recording


def test_held_lasts_as_long_as_the_block():
    recorded = LeaseHistory(now=itertools.count().__next__)

    def fail_while_held() -> None:
        with recorded.held("w", 3):
            assert repr(recorded) == "<LeaseHistory of 1 tenures, held by w>"
            raise KeyError

    with pytest.raises(KeyError):
        fail_while_held()
    assert recorded.tenures == [Tenure("w", 3, 0, 1)]
    assert repr(recorded) == "<LeaseHistory of 1 tenures, held by nobody>"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda it: it.began("a"), "'a' holds the lease already"),
        (lambda it: it.ended("b"), "'b' does not hold the lease"),
        (lambda it: it.ended("a", at=-1.0), "cannot end before it began"),
    ],
)
def test_what_cannot_be_is_refused(wrong, said):
    recorded = LeaseHistory(now=lambda: 5.0)
    recorded.began("a")
    with pytest.raises(ConfigurationError, match=said):
        wrong(recorded)
    assert recorded.tenures == [Tenure("a", None, 5.0, None)]


def test_many_threads_record_into_one():
    recorded, together = LeaseHistory(), threading.Barrier(8)
    lock = threading.Lock()

    def contend(name: str) -> None:
        together.wait()
        for _ in range(50):
            with lock, recorded.held(name):
                pass

    threads = [threading.Thread(target=contend, args=(f"w-{number}",)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    recorded.assert_one_at_a_time()
    assert len(recorded.tenures) == 400
    assert {one.owner for one in recorded.tenures} == {f"w-{number}" for number in range(8)}


# -- watching


class Believer:
    """Believes what it is told to, and says when it has been asked again."""

    def __init__(self, belief: object = False) -> None:
        self.belief = belief
        self.asked = 0

    def __call__(self) -> object:
        self.asked += 1
        if isinstance(self.belief, Exception):
            raise self.belief
        return self.belief

    def become(self, belief: object) -> None:
        self.belief = belief
        before = self.asked
        eventually(lambda: self.asked > before + 1, interval=0.001)


def test_a_belief_is_watched():
    """Its transitions, with its token if it is a number; the end of the watch ends it."""
    recorded, believer = LeaseHistory(), Believer()
    before = clock.now()
    with recorded.watch("w", believer):
        for belief in (True, False, None, 17, 18, "yes", 0, 19):
            believer.become(belief)
    assert [one.token for one in recorded.tenures] == [None, 17, 18, None, 19]
    assert all(one.ended is not None and before <= one.began <= one.ended for one in recorded.tenures)
    recorded.assert_one_at_a_time()
    asked = believer.asked
    recorded.close()
    assert believer.asked == asked


def test_only_what_was_seen_is_recorded():
    """From the end of the first look that saw it to the beginning of the last: never too long."""
    ticks = itertools.count()
    times: list[tuple[int, int]] = []
    beliefs = [False, True, True, True, False]

    def believes() -> bool:
        times.append((next(ticks), next(ticks)))
        return beliefs[len(times) - 1] if len(times) <= len(beliefs) else False

    recorded = LeaseHistory(now=lambda: next(ticks))
    with recorded.watch("w", believes, interval=0.001):
        eventually(lambda: len(times) > len(beliefs), interval=0.001)
    (tenure,) = recorded.tenures
    assert times[1][1] < tenure.began < times[2][0]
    assert times[2][1] < tenure.ended < times[3][0]


def test_what_a_belief_raises_is_raised_at_the_end():
    recorded, believer = LeaseHistory(), Believer(True)
    watch = recorded.watch("w", believer)
    eventually(lambda: recorded.tenures)
    believer.belief = OSError("gone")
    eventually(lambda: recorded.tenures[0].ended is not None)
    with pytest.raises(OSError, match="gone"):
        recorded.close()
    watch.close()


def test_an_error_of_the_block_is_the_one_that_counts():
    believer = Believer(OSError("gone"))

    def watch_badly(*, fail: bool) -> None:
        with LeaseHistory() as recorded, recorded.watch("w", believer):
            eventually(lambda: believer.asked)
            if fail:
                raise KeyError

    with pytest.raises(KeyError):
        watch_badly(fail=True)
    with pytest.raises(OSError, match="gone"):
        watch_badly(fail=False)


# -- other processes

CONTENDER = """
import fcntl, sys
from coordinator.testing import LeaseHistory

history = LeaseHistory(write=lambda line: print(line, flush=True))
with open(sys.argv[1], "w") as file:
    for _ in range(20):
        fcntl.flock(file, fcntl.LOCK_EX)
        with history.held(f"of {sys.argv[2]}"):
            pass
        fcntl.flock(file, fcntl.LOCK_UN)
    fcntl.flock(file, fcntl.LOCK_EX)
    history.began(f"of {sys.argv[2]}")
    input()
"""


def test_histories_of_processes_are_put_together(tmp_path):
    """One clock for all: what a lock on a file keeps apart is apart, also with the one that was killed."""
    file = tmp_path / "lock"
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(file), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    lines: list[list[str]] = [[], []]
    readers = [
        threading.Thread(target=lambda place=place: lines[place].extend(contenders[place].stdout))
        for place in range(2)
    ]
    for reader in readers:
        reader.start()
    eventually(lambda: any(len(one) == 41 for one in lines), timeout=30.0)
    first = next(place for place in range(2) if len(lines[place]) == 41)
    at = clock.now()
    contenders[first].kill()
    eventually(lambda: len(lines[1 - first]) == 41, timeout=30.0)
    contenders[1 - first].kill()
    for contender, reader in zip(contenders, readers, strict=True):
        reader.join()
        contender.communicate()
    together = LeaseHistory.from_lines(*lines)
    accused = together.overlaps()
    assert accused
    assert {one.first.owner for one in accused} == {f"of {first}"}, "it died without a word"
    together.ended(f"of {first}", at)
    together.assert_one_at_a_time()
    assert len(together.tenures) == 42


def test_the_same_name_in_two_histories_is_two_contenders():
    lines = history((0.0, 5.0)).to_lines()
    assert len(LeaseHistory.from_lines(lines, lines).overlaps()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        '{"what": "began"}',
        '{"what": "paused", "owner": "a", "at": 1}',
        '{"what": "began", "owner": "a", "at": "soon"}',
        '{"what": "began", "owner": "a", "at": 1, "token": "x"}',
        '{"what": "ended", "owner": "a", "at": 1}',
        '{"what": "began", "owner": "w-0", "at": 1}',
    ],
)
def test_a_line_that_is_no_transition_is_named(line):
    good = json.dumps({"what": "began", "owner": "w-0", "at": 0})
    with pytest.raises(ConfigurationError, match="line 2 of a history: "):
        LeaseHistory.from_lines([good, line])
