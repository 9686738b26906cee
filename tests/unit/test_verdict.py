"""The judge of the storm (tests/faults/verdict.py): what it lets pass, and what it does not."""

from __future__ import annotations

import json

import pytest

from tests.faults.verdict import Deed, Verdict


def began(owner: str, token: int, at: float) -> str:
    return json.dumps({"what": "began", "owner": owner, "token": token, "at": at})


def ended(owner: str, at: float) -> str:
    return json.dumps({"what": "ended", "owner": owner, "at": at})


def looked(owner: str, after: float, at: float, *, passed: bool) -> str:
    return json.dumps({"what": "looked", "owner": owner, "after": after, "at": at, "passed": passed})


def tenure(owner: str, token: int, since: float, until: float) -> list[str]:
    return [began(owner, token, since), ended(owner, until)]


def run(*lines: list[str], deeds: tuple[Deed, ...] = (), until: float = 10.0) -> Verdict:
    return Verdict(list(lines), list(deeds), 0.0, until, "2a")


GOOD = [*tenure("A.0", 1, 0.0, 5.0)], [*tenure("B.0", 2, 5.0, 10.0)]


def test_one_after_the_other_is_right() -> None:
    run(*GOOD).assert_never_two()


def test_two_at_once_are_told_with_the_fault_and_a_picture() -> None:
    found = run(
        tenure("A.0", 1, 0.0, 5.5), tenure("B.0", 2, 5.0, 10.0), deeds=(Deed("leader deposed (3)", 4.0, 6.0),)
    )
    with pytest.raises(AssertionError) as told:
        found.assert_never_two()
    text = str(told.value)
    assert "1 times two held the lease at once" in text
    assert "5.000 s for 0.500 s: A.0 (token 1) and B.0 (token 2), during: leader deposed (3)" in text
    assert "XXX" in text
    assert "seed 2a" in text


def test_who_was_stopped_believes_nothing_until_he_looks_again() -> None:
    """His tenure ends with his last look before; that he is told so by the first one after it is right."""
    stopped = [began("A.0", 1, 0.0), looked("A.0", 2.0, 9.0, passed=False), ended("A.0", 2.0)]
    found = run(stopped, tenure("B.0", 2, 5.0, 10.0), deeds=(Deed("stopped (A)", 2.0, 9.0),))
    assert len(found.stale()) == 1
    found.assert_never_two()


def test_who_was_stopped_and_is_let_go_on_is_found_out() -> None:
    stopped = [began("A.0", 1, 0.0), looked("A.0", 2.0, 9.0, passed=True), ended("A.0", 9.5)]
    wrongs = run(stopped, tenure("B.0", 2, 5.0, 8.0)).wrongs()
    assert "two held the lease at once" in wrongs[0]
    assert "the first look of A.0 after 7.000 s, at 9.000 s, let it go on although B.0 (token 2)" in wrongs[1]


def test_a_look_that_is_let_go_on_after_another_ones_tenure_is_found_out_also_if_it_was_the_last() -> None:
    """No overlap tells of it: the tenure that was confirmed falsely did not count as lasting."""
    stopped = [began("A.0", 1, 0.0), looked("A.0", 2.0, 9.0, passed=True), ended("A.0", 2.0)]
    assert len(run(stopped, tenure("B.0", 2, 5.0, 10.0)).rivalries()) == 1


def test_who_was_stopped_shortly_is_not_stale() -> None:
    stopped = [began("A.0", 1, 0.0), looked("A.0", 2.0, 3.0, passed=True), ended("A.0", 5.0)]
    found = run(stopped, tenure("B.0", 2, 5.0, 10.0))
    assert found.stale() == []
    found.assert_never_two()


def test_tokens_have_to_ascend() -> None:
    found = run(tenure("A.0", 2, 0.0, 5.0), tenure("B.0", 2, 5.0, 10.0))
    with pytest.raises(AssertionError, match="tokens do not ascend"):
        found.assert_never_two()


def test_what_takes_too_long_after_a_fault_counts() -> None:
    """From 0 to 2 and from 4 to 10 there was no fault: 8 s, of which 4.5 were led."""
    fault = Deed("black hole (A)", 2.0, 4.0)
    found = run(tenure("A.0", 1, 0.0, 2.0), tenure("B.0", 2, 7.5, 10.0), deeds=(fault,))
    assert found.calm == pytest.approx(8.0)
    assert found.led == pytest.approx(4.5 / 8.0)
    with pytest.raises(AssertionError, match=r"led for 56% of the 8\.0 s without a fault, less than 60%"):
        found.assert_never_two()


def test_nobody_has_to_lead_during_a_fault() -> None:
    """Faults may overlap: from 1 to 9 there was always one."""
    deeds = Deed("silence (A)", 1.0, 6.0), Deed("leader killed (2)", 5.0, 9.0)
    found = run(tenure("A.0", 1, 0.0, 1.0), tenure("B.0", 2, 9.0, 10.0), deeds=deeds)
    assert found.calm == pytest.approx(2.0)
    found.assert_never_two()


def test_a_run_in_which_nobody_ever_led_is_wrong() -> None:
    with pytest.raises(AssertionError, match="nobody ever held the lease"):
        run([]).assert_never_two()


def test_a_contender_that_fails_is_wrong() -> None:
    crashed = json.dumps({"what": "failed", "owner": "A.0", "why": "ValueError: x"})
    with pytest.raises(AssertionError, match=r"A\.0 failed: ValueError: x"):
        run([*GOOD[0], crashed], GOOD[1]).assert_never_two()


def test_a_tenure_whose_end_is_not_told_yet_is_nobodys_rival() -> None:
    """How long it was confirmed is not known; when all has ended it is wrong."""
    found = run([began("A.0", 1, 0.0)], tenure("B.0", 2, 5.0, 10.0))
    assert found.rivalries() == []
    assert "A.0 has not told the end of his tenure" in found.wrongs()
