"""The simulator's price file and arithmetic against the catalogue's: two hands wrote them, and they agree."""

from __future__ import annotations

import random

import pytest

from batcher.catalog.models import Model, load_catalog
from batcher.domain import Usage
from batcher.money import cost_nusd
from batcher.settings import Settings
from batcher.simulator.prices import PriceFile, Tokens

CATALOGUE = load_catalog(Settings.model_construct())
HOSTED = [model for model in CATALOGUE.models.values() if model.provider != "local"]


@pytest.mark.parametrize("model", HOSTED, ids=lambda model: model.name)
def test_the_ledger_and_the_bill_come_to_the_same_sum(model: Model) -> None:
    price = PriceFile.load().find(model.provider, model.id)
    assert price is not None, f"write the price of {model.id} into batcher/simulator/prices.toml"
    draw = random.Random(model.name)
    around = [price.long_from, price.long_from + 1] if price.long else []
    for _ in range(200):
        inputs = draw.choice([draw.randrange(model.context), draw.randrange(50_000), *around])
        cached = draw.choice([0, draw.randrange(inputs + 1)])
        written = draw.choice([0, draw.randrange(inputs - cached + 1)])
        outputs = draw.randrange(20_000)
        used = Tokens(inputs, outputs, cached, written)
        assert cost_nusd(Usage(inputs, cached, written, outputs, 0), model.prices) == price.cost_nusd(used)


@pytest.mark.parametrize("model", HOSTED, ids=lambda model: model.name)
def test_both_know_past_which_length_a_call_costs_more(model: Model) -> None:
    price = PriceFile.load().find(model.provider, model.id)
    assert price is not None
    assert (price.long is None) == (model.prices.long is None)
    assert price.long_from == model.prices.long_from
