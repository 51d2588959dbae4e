"""What one image costs by each vendor's rule, up to the largest that batcher sends, against the catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.catalog.models import load_catalog
from batcher.documents.images import MAX_SIDE
from batcher.settings import Settings

Rule = Callable[[int, int], int]


def tiles_of_512(base: int, each: int) -> Rule:
    """OpenAI's guide: into 2,048 x 2,048, the shorter side down to 768, then tiles of 512."""

    def tokens(width: int, height: int) -> int:
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height)) if min(width, height) * scale > 768 else scale
        columns, rows = (math.ceil(round(side * scale) / 512) for side in (width, height))
        return base + each * max(1, columns) * max(1, rows)

    return tokens


def patches_of_32(most: int, factor: float) -> Rule:
    """OpenAI's guide: patches of 32 x 32, the image shrunk until there are no more than ``most``."""

    def tokens(width: int, height: int) -> int:
        columns, rows = width / 32, height / 32
        if math.ceil(columns) * math.ceil(rows) > most:
            shrink = math.sqrt(most / (columns * rows))
            columns, rows = columns * shrink, rows * shrink
            # And once more, so that whole patches fit one of the sides.
            again = min(max(1, math.floor(side)) / side for side in (columns, rows))
            columns, rows = columns * again, rows * again
        patches = min(most, math.ceil(round(columns, 9)) * math.ceil(round(rows, 9)))
        return math.ceil(patches * factor)

    return tokens


def patches_of_28(longest: int, most: int) -> Rule:
    """Anthropic's guide: a patch of 28 x 28 is a token; larger images are scaled down to the limits first."""

    def tokens(width: int, height: int) -> int:
        scale = min(1.0, longest / max(width, height))
        count = math.ceil(width * scale / 28) * math.ceil(height * scale / 28)
        while count > most:
            scale *= 0.99
            count = math.ceil(width * scale / 28) * math.ceil(height * scale / 28)
        return count

    return tokens


def by_area(width: int, height: int) -> int:
    """Anthropic's former guide: the pixels over 750, the image scaled to 1,568 and about 1,600 tokens."""
    scale = min(1.0, 1568 / max(width, height))
    return min(1600, math.ceil(width * scale * height * scale / 750))


def tiles_of_768(width: int, height: int) -> int:
    """Google's guides for Gemini 2: 258 up to 384 x 384, else 258 for each tile.

    One says that tiles are 768 wide, the other a shorter side over 1.5, from 256 to 768: the dearer counts.
    """
    if max(width, height) <= 384:
        return 258
    units = (768, min(768, max(256, math.floor(min(width, height) / 1.5))))
    return max(258 * math.ceil(width / unit) * math.ceil(height / unit) for unit in units)


def highest_resolution(width: int, height: int) -> int:
    """Google's guide to Gemini 3's ``media_resolution``: 280 to 2,240 tokens, by setting."""
    return 2240


RULES: dict[str, list[Rule]] = {
    "gpt-4o-mini": [tiles_of_512(2833, 5667)],
    "gpt-4o": [tiles_of_512(85, 170)],
    "gpt-4.1": [tiles_of_512(85, 170), patches_of_32(1536, 1)],
    "gpt-4.1-mini": [patches_of_32(1536, 1.62)],
    "gpt-6-luna": [patches_of_32(10_000, 2.46)],
    "gpt-6.1-terra": [patches_of_32(10_000, 2.46)],
    "gpt-6.1-sol": [patches_of_32(10_000, 2.46)],
    "claude-haiku-4-5": [patches_of_28(1568, 1568), by_area],
    "claude-sonnet-4-6": [patches_of_28(1568, 1568), by_area],
    "claude-haiku-5-5": [patches_of_28(2576, 4784)],
    "claude-sonnet-5-5": [patches_of_28(2576, 4784)],
    "claude-opus-5-5": [patches_of_28(2576, 4784)],
    "gemini-2.5-flash-lite": [tiles_of_768],
    "gemini-3.5-flash-lite": [highest_resolution],
}
MODELS = load_catalog(Settings()).models
SEEING = sorted(name for name, model in MODELS.items() if "vision" in model.abilities)


def test_every_model_that_sees_has_its_vendors_rule() -> None:
    assert sorted(RULES) == SEEING


@pytest.mark.parametrize("name", SEEING)
@given(width=st.integers(1, MAX_SIDE), height=st.integers(1, MAX_SIDE))
@example(width=MAX_SIDE, height=MAX_SIDE)
@example(width=MAX_SIDE, height=1)
@example(width=1, height=MAX_SIDE)
@example(width=384, height=MAX_SIDE)
@example(width=2048, height=768)
@example(width=1092, height=1092)
@example(width=2576, height=1456)
def test_no_image_costs_more_than_the_catalogue_says(name: str, width: int, height: int) -> None:
    for rule in RULES[name]:
        assert rule(width, height) <= MODELS[name].image_tokens


@pytest.mark.parametrize(
    ("rule", "size", "tokens"),
    [
        (tiles_of_512(85, 170), (1024, 1024), 765),
        (tiles_of_512(85, 170), (2048, 4096), 1105),
        (patches_of_32(1536, 1), (1024, 1024), 1024),
        (patches_of_32(1536, 1), (1800, 2400), 1452),
        (patches_of_28(1568, 1568), (1000, 1000), 1296),
        (by_area, (1000, 1000), 1334),
        (tiles_of_768, (300, 300), 258),
        (tiles_of_768, (960, 540), 6 * 258),
    ],
)
def test_the_rules_give_the_vendors_own_examples(rule: Rule, size: tuple[int, int], tokens: int) -> None:
    assert rule(*size) == tokens


def test_a_figure_is_no_higher_than_its_rule_can_reach() -> None:
    """A bound that is too high reserves too much, and leaves more of a cap unused than it need."""
    sizes = [(MAX_SIDE, MAX_SIDE), (2048, 768), (1568, 784), (2576, 1456), (1072, 1456)]
    for name in SEEING:
        reached = max(rule(*size) for rule in RULES[name] for size in sizes)
        assert MODELS[name].image_tokens <= 1.1 * reached, name
