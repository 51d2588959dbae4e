"""Self-hosting against an API: the worked example, and the break-even volumes against counting them out."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from batcher.money import NUSD_PER_USD, usd_to_nusd
from batcher.planning.self_hosting import RULE_OF_THUMB, SECONDS_PER_MONTH, Gpu, SelfHosting


def hosting(
    requests: int, *, tokens: int = 2_000, mtok_usd: str = "6.25", gpu_usd: str = "1460", per_s: int = 500
) -> SelfHosting:
    request = Fraction(usd_to_nusd(mtok_usd) * tokens, 1_000_000)
    return SelfHosting(Fraction(requests), tokens, request, Gpu(usd_to_nusd(gpu_usd), Fraction(per_s)))


def test_the_worked_example() -> None:
    found = hosting(1_000_000)
    assert SECONDS_PER_MONTH == 730 * 3600
    assert found.api_nusd == 12_500 * NUSD_PER_USD
    assert (found.gpus, found.own_nusd) == (2, 2_920 * NUSD_PER_USD)
    assert found.own_is_cheaper
    assert found.breaks_even_at == found.pays_for_good_from == 116_800 > RULE_OF_THUMB
    assert not hosting(RULE_OF_THUMB).own_is_cheaper


def test_at_the_break_even_volume_both_cost_the_same() -> None:
    assert hosting(116_800).api_nusd == hosting(116_800).own_nusd
    assert hosting(116_801).own_is_cheaper
    assert hosting(1).gpus == 1


def test_a_cheap_api_is_never_beaten_and_a_free_one_neither() -> None:
    cheap = hosting(10**9, mtok_usd="0.9")
    assert (cheap.breaks_even_at, cheap.pays_for_good_from, cheap.own_is_cheaper) == (None, None, False)
    free = hosting(10**6, mtok_usd="0")
    assert (free.breaks_even_at, free.pays_for_good_from, free.own_is_cheaper) == (None, None, False)


def test_a_gpu_that_works_at_night_only_gets_through_a_third() -> None:
    gpu = Gpu(1, Fraction(500), Fraction(1, 3))
    assert gpu.tokens_per_month == 500 * 730 * 3600 / 3
    assert SelfHosting(Fraction(1_000_000), 2_000, Fraction(1), gpu).gpus == 5


@given(
    tokens=st.integers(1, 40),
    rent=st.integers(1, 400),
    price=st.integers(1, 40),
    per_month=st.integers(200, 900),
)
def test_break_even_volumes_are_those_found_by_counting(
    tokens: int, rent: int, price: int, per_month: int
) -> None:
    gpu = Gpu(rent, per_month / SECONDS_PER_MONTH)

    def at(requests: int) -> SelfHosting:
        return SelfHosting(Fraction(requests), tokens, Fraction(price), gpu)

    most = gpu.tokens_per_month / tokens
    margin = most - Fraction(rent, price)
    found = at(1)
    if margin < 0:
        assert found.breaks_even_at is None
        assert all(at(requests).own_nusd > at(requests).api_nusd for requests in range(1, 2_000, 7))
        return
    assert found.breaks_even_at is not None
    first = found.breaks_even_at
    if first <= most:
        assert at(first).own_nusd <= at(first).api_nusd
        assert all(at(requests).own_nusd > at(requests).api_nusd for requests in range(1, first))
    good = found.pays_for_good_from
    if not margin:
        assert good is None
        return
    assert good is not None
    assert all(at(good + more).own_nusd <= at(good + more).api_nusd for more in range(600))
