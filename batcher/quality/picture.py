"""Cost against accuracy as a picture: an SVG that needs nothing else to be seen, in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from batcher.money import format_usd
from batcher.quality.verdict import Placed, Verdict, accuracy_words, judged_words, percent

_WIDTH: Final = 760
_HEIGHT: Final = 460
_LEFT: Final = 64
_RIGHT: Final = 720
_TOP: Final = 64
_BOTTOM: Final = 400
_LABEL_GAP: Final = 15

_STYLE: Final = """
svg { font: 12px system-ui, sans-serif; } .paper { fill: #ffffff; }
text { fill: #24292f; } .quiet { fill: #57606a; } .grid { stroke: #d8dee4; } .axis { stroke: #57606a; }
.floor { stroke: #cf222e; stroke-dasharray: 6 4; } .floor-text { fill: #cf222e; }
.frontier { stroke: #0969da; fill: none; stroke-width: 1.5; opacity: .55; }
.bar { stroke: #57606a; stroke-width: 1.5; } .dot { fill: #57606a; }
.chosen { fill: #1a7f37; font-weight: 600; }
.model { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #2a313c; }
.axis, .bar { stroke: #9198a1; } .dot { fill: #9198a1; } .floor { stroke: #ff7b72; }
.floor-text { fill: #ff7b72; } .frontier { stroke: #58a6ff; } .chosen { fill: #56d364; }
.model { stroke: #0d1117; }
}
"""


@dataclass(frozen=True, slots=True)
class _Scales:
    """Where figures stand in the picture: dollars per 1,000 documents by their logarithm, shares upwards.

    Attributes:
        least: the least cost that is not 0, nano-dollars a document.
        most: the greatest.
        has_free: whether a model costs nothing; it stands left of the others, which no logarithm reaches.
        lowest: the share at the bottom.
    """

    least: float
    most: float
    has_free: bool
    lowest: float

    @classmethod
    def of(cls, placed: Sequence[Placed], floor: float) -> _Scales:
        costs = [one.per_document_nusd for one in placed if one.per_document_nusd > 0]
        least, most = (min(costs), max(costs)) if costs else (1e6, 1e6)
        room = max(1.25, (most / least) ** 0.12)
        lowest = min([floor, *(one.accuracy.low for one in placed)])
        return cls(
            least / room,
            most * room,
            any(one.per_document_nusd <= 0 for one in placed),
            max(0.0, math.floor(lowest * 20 - 0.4) / 20),
        )

    def x(self, nusd: float) -> float:
        start = _LEFT + (60 if self.has_free else 0)
        if nusd <= 0:
            return _LEFT + 30
        share = math.log(nusd / self.least) / math.log(self.most / self.least)
        return start + share * (_RIGHT - start)

    def y(self, share: float) -> float:
        return _BOTTOM - (share - self.lowest) / (1 - self.lowest) * (_BOTTOM - _TOP)


def draw(verdict: Verdict, title: str) -> str:
    """The measured models as an SVG.

    Args:
        verdict: what was measured. Models without an answer, and those that are judged in part, are not
            drawn but named.
        title: one line above the picture.
    """
    placed = [one for one in verdict.placed if one.measured.answered]
    scales = _Scales.of(placed, verdict.floor)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="title">',
        f'<title id="title">{_text(_short(title))}</title>',
        f"<desc>{_text(verdict.sentence)}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="26" font-size="15" font-weight="600">{_text(_short(title))}</text>',
        f'<text class="quiet" x="{_LEFT}" y="46">{_text(_short(_subtitle(verdict), 120))}</text>',
        *_grid(scales),
        *_floor(scales, verdict.floor),
        *_frontier(scales, placed),
        *_models(scales, placed, verdict.chosen),
        *_not_drawn(verdict),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _subtitle(verdict: Verdict) -> str:
    choice = f"{verdict.chosen.model} is the cheapest that clears" if verdict.chosen else "no model clears"
    return (
        f"{choice} the floor of {percent(verdict.floor)}; bars are {percent(verdict.confidence)} intervals, "
        "the line is the frontier"
    )


def _not_drawn(verdict: Verdict) -> Iterator[str]:
    """A line at the bottom: the models that have no place in the picture, and why."""
    told = [f"{one.model} ({judged_words(one)})" for one in verdict.unjudged]
    told += [f"{one.model} (no answer)" for one in verdict.placed if not one.measured.answered]
    if told:
        words = _text(_short(f"Not drawn: {', '.join(told)}", 110))
        yield f'<text class="quiet" x="{_LEFT}" y="{_HEIGHT - 3}">{words}</text>'


def _text(text: str) -> str:
    """Text that is safe within an element."""
    return escape("".join(sign if sign.isprintable() else "?" for sign in text))


def _short(text: str, most: int = 80) -> str:
    """Text of a length that fits."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _grid(scales: _Scales) -> Iterator[str]:
    step = 0.05 if 1 - scales.lowest <= 0.5 else 0.1
    for number in range(round((1 - scales.lowest) / step) + 1):
        share = 1 - number * step
        y = scales.y(share)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="quiet" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>'
    yield f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}"/>'
    for nusd in _ticks(scales):
        x = scales.x(nusd)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{_BOTTOM}" y2="{_BOTTOM + 5}"/>'
        yield (
            f'<text class="quiet" x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle">'
            f"{format_usd(round(1000 * nusd))}</text>"
        )
    middle = (_LEFT + _RIGHT) / 2
    yield (
        f'<text class="quiet" x="{middle:.0f}" y="{_BOTTOM + 44}" text-anchor="middle">'
        "cost of 1,000 documents, retries and repairs included (logarithmic)</text>"
    )


def _ticks(scales: _Scales) -> Iterator[float]:
    """Round costs between the ends: 1, 2 and 5 times powers of ten, the powers alone where that is much."""
    if scales.has_free:
        yield 0.0
    low, high = math.floor(math.log10(scales.least)), math.ceil(math.log10(scales.most))
    digits = (1, 2, 5) if math.log10(scales.most / scales.least) <= 3.2 else (1,)
    for power in range(low, high + 1):
        for digit in digits:
            nusd = digit * 10.0**power
            if scales.least <= nusd <= scales.most:
                yield nusd


def _floor(scales: _Scales, floor: float) -> Iterator[str]:
    y = scales.y(floor)
    yield f'<line class="floor" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    name = f"floor {percent(floor)}"
    yield f'<text class="floor-text" x="{_RIGHT}" y="{y - 5:.1f}" text-anchor="end">{name}</text>'


def _frontier(scales: _Scales, placed: Sequence[Placed]) -> Iterator[str]:
    """Steps from each model that no other beats to the next: what accuracy money buys."""
    points = [
        (scales.x(one.per_document_nusd), scales.y(one.accuracy.share))
        for one in placed
        if one.is_on_frontier
    ]
    if not points:
        return
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    path += "".join(f" H{x:.1f} V{y:.1f}" for x, y in points[1:])
    yield f'<path class="frontier" d="{path} H{_RIGHT}"/>'


def _models(scales: _Scales, placed: Sequence[Placed], choice: Placed | None) -> Iterator[str]:
    label_y = _label_places(scales, placed)
    for one in placed:
        x, y = scales.x(one.per_document_nusd), scales.y(one.accuracy.share)
        chosen = " chosen" if one is choice else ""
        to_left = x > (_LEFT + 2 * _RIGHT) / 3
        side = f'x="{x - 9:.1f}" text-anchor="end"' if to_left else f'x="{x + 9:.1f}"'
        name = _text(_short(one.model, 50))
        tip = f"{one.model}: {accuracy_words(one.accuracy, one.measured.scored)}"
        low, high = scales.y(one.accuracy.low), scales.y(one.accuracy.high)
        yield (
            f"<g><title>{_text(tip)}</title>"
            f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
            f'<circle class="dot{chosen}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text class="model{chosen}" {side} y="{label_y[one.model]:.1f}">{name}</text></g>'
        )


def _label_places(scales: _Scales, placed: Sequence[Placed]) -> dict[str, float]:
    """The height of each label: just above its model, moved down as far as others are in the way."""
    places: dict[str, float] = {}
    for one in sorted(placed, key=lambda one: -one.accuracy.share):
        y = scales.y(one.accuracy.share) - 7
        while any(abs(y - other) < _LABEL_GAP for other in places.values()):
            y += 1
        places[one.model] = y
    return places
