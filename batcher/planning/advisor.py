"""Which models to take for a kind of work, and why: measured accuracy first, then the articles' rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from batcher.catalog.models import Catalog, Model
from batcher.catalog.privacy import Place
from batcher.money import format_usd
from batcher.planning.article_rules import PRESENT_MODELS, RULES, Need, Present, Rule
from batcher.planning.history import History, MeasuredAccuracy
from batcher.planning.monthly import Accuracy, CostLine, measured_accuracy, measured_extra, whole_nusd
from batcher.routing.choice import LEAST_SCORED
from batcher.simulator.latency import LatencyTable, Speed


class Standing(IntEnum):
    """Why a model stands where it does, best first."""

    PROVEN = 0
    LIKELY = 1
    RULE = 2
    OTHER = 3
    DOUBTFUL = 4


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a call takes.

    Attributes:
        seconds: from the request to the end of the answer.
        first_token_s: to its beginning; None where only the whole was measured.
        is_measured: whether it was measured here; else it is usual for models of the class.
    """

    seconds: float
    first_token_s: float | None
    is_measured: bool


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One model that meets a need.

    Attributes:
        line: the model, and what it costs at the need's tokens.
        model: the model.
        place: where it answers.
        standing: why it stands where it does.
        reasons: the same in sentences.
        cautions: what to know before taking it.
        latency: how long a call takes; None for a model on one's own machines that was never measured.
    """

    line: CostLine
    model: Model
    place: Place
    standing: Standing
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to take.

    Attributes:
        need: what was asked.
        ranked: models that meet it, best first.
        left_out: why the others do not, by name.
        notes: what else to know.
    """

    need: Need
    ranked: tuple[Recommendation, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def stand_in(self) -> Recommendation | None:
        """The best one of another provider than the first's, for when that is down."""
        if not self.ranked:
            return None
        first = self.ranked[0].model.provider
        return next((found for found in self.ranked if found.model.provider != first), None)


@dataclass(frozen=True, slots=True)
class _Named:
    """The place that the rules give a model."""

    position: int
    reason: str


@dataclass
class Advisor:
    """Gives advice.

    Attributes:
        catalog: the models in force.
        place_of: where each answers.
        history: what was measured of the task; empty if none was named.
    """

    catalog: Catalog
    place_of: Callable[[Model], Place]
    history: History = field(default_factory=History)
    _speeds: LatencyTable = field(init=False, default_factory=LatencyTable)

    def advise(self, need: Need) -> Advice:
        """The models that meet a need, best first."""
        named = self._named(need)
        left_out: dict[str, str] = {}
        fitting: list[Recommendation] = []
        for model in self.catalog.models.values():
            found = self._look_at(model, need, named.get(model.name))
            if isinstance(found, str):
                left_out[model.name] = found
            else:
                fitting.append(found)
        ranked = tuple(sorted(fitting, key=self._order(fitting, named)))
        return Advice(need, ranked, left_out, tuple(_notes(need, ranked)))

    def _named(self, need: Need) -> dict[str, _Named]:
        """Models that the rules name, each by the first rule that does."""
        found: dict[str, _Named] = {}
        for rule in RULES:
            if rule.applies(need):
                for name, reason in self._of_rule(rule, need):
                    found.setdefault(name, _Named(len(found), reason))
        return found

    def _of_rule(self, rule: Rule, need: Need) -> Iterator[tuple[str, str]]:
        for family in rule.families:
            for model in self.catalog.models.values():
                if family in f"{model.name} {model.id}".lower() and need.privacy.allows(self.place_of(model)):
                    yield model.name, rule.because
        depth = max((len(PRESENT_MODELS[article]) for article in rule.models), default=0)
        for choice in range(depth):
            for article in rule.models:
                present = PRESENT_MODELS[article][choice : choice + 1]
                yield from ((found.model, _reason(rule, article, found)) for found in present)

    def _look_at(self, model: Model, need: Need, named: _Named | None) -> Recommendation | str:
        """The recommendation of a model, or why it does not meet the need."""
        line = CostLine(
            model.name,
            model.prices,
            need.tokens,
            model,
            measured_accuracy(self.history, model.name),
            measured_extra(self.history, model.name),
        )
        place, latency = self.place_of(model), self._latency(model, need)
        obstacle = _obstacle(need, line, model, place, latency)
        if obstacle:
            return obstacle
        standing = _standing(need, line.accuracy, named)
        return Recommendation(
            line=line,
            model=model,
            place=place,
            standing=standing,
            reasons=tuple(_reasons(need, line, standing, named, self._tiers_of(model))),
            cautions=tuple(_cautions(need, model, place, latency)),
            latency=latency,
        )

    def _latency(self, model: Model, need: Need) -> Latency | None:
        measured = self.history.latencies_s.get(model.name)
        if measured is not None:
            return Latency(measured, None, is_measured=True)
        if self.place_of(model) is not Place.VENDOR:
            return None
        speed: Speed = self._speeds.speed(model.id)
        seconds = speed.first_token_s + need.tokens.output / speed.tokens_per_s
        return Latency(seconds, speed.first_token_s, is_measured=False)

    def _tiers_of(self, model: Model) -> list[str]:
        return [tier for tier, names in self.catalog.tiers.items() if model.name in names]

    def _order(
        self, fitting: Sequence[Recommendation], named: Mapping[str, _Named]
    ) -> Callable[[Recommendation], tuple[float | str, ...]]:
        """What to sort by: the standing; then cost per correct answer, or the rules' order, or closeness."""
        by_rule = [found for found in fitting if found.standing is Standing.RULE]
        first = min(by_rule, key=lambda found: named[found.model.name].position, default=None)
        near = set(self._tiers_of(first.model)) if first else set()

        def key(found: Recommendation) -> tuple[float | str, ...]:
            name = found.model.name
            if found.standing is Standing.RULE:
                return found.standing, named[name].position
            if found.standing is Standing.OTHER:
                is_far = not near & set(self._tiers_of(found.model))
                is_own = found.place is not Place.VENDOR
                cost = found.line.request_nusd
                return found.standing, is_own, is_far, cost, -found.model.practical_context, name
            return found.standing, float(found.line.correct_nusd or 0), name

        return key


def _reason(rule: Rule, article: str, present: Present) -> str:
    stands = f", for which it stands: {present.why}" if present.why else ""
    return f"{rule.because}; the articles' choice is {article}{stands}"


def _obstacle(need: Need, line: CostLine, model: Model, place: Place, latency: Latency | None) -> str:
    """Why a model does not meet a need; "" if it does."""
    if not need.privacy.allows(place):
        return f"privacy {need.privacy.value}: documents would go to {model.data or model.provider}"
    if need.max_cost_nusd is not None and line.request_nusd > need.max_cost_nusd:
        return f"{format_usd(line.request_nusd)} a request, more than {format_usd(need.max_cost_nusd)}"
    return _unable(need, model) or _too_slow(need, latency) or _disproved(need, line.accuracy)


def _unable(need: Need, model: Model) -> str:
    if need.longest_input + need.tokens.output > model.context:
        return f"its context is {model.context:,} tokens"
    if need.tokens.output > model.max_output:
        return f"its answers end at {model.max_output:,} tokens"
    if need.schema and "schema" not in model.abilities:
        return "its API enforces no schema"
    return "it sees no pictures" if need.vision and "vision" not in model.abilities else ""


def _too_slow(need: Need, latency: Latency | None) -> str:
    """A measured time counts as it is; of a usual one only the first token's: answers differ in length."""
    if need.max_latency_s is None or latency is None:
        return ""
    limit = f"more than {need.max_latency_s:g} s"
    if latency.is_measured and latency.seconds > need.max_latency_s:
        return f"a call takes {latency.seconds:.1f} s, as measured, {limit}"
    if latency.first_token_s is not None and latency.first_token_s > need.max_latency_s:
        return f"it usually starts after {latency.first_token_s:g} s, {limit}"
    return ""


def _disproved(need: Need, accuracy: Accuracy | None) -> str:
    found = accuracy.measured if accuracy else None
    if need.floor is None or found is None or found.interval.high >= need.floor:
        return ""
    return f"{accuracy_words(found)}: under the floor of {percent(need.floor)}"


def _standing(need: Need, accuracy: Accuracy | None, named: _Named | None) -> Standing:
    found = accuracy.measured if accuracy else None
    if found is not None and need.floor is not None and found.scored >= LEAST_SCORED:
        if found.interval.low >= need.floor:
            return Standing.PROVEN
        return Standing.LIKELY if found.interval.share >= need.floor else Standing.DOUBTFUL
    return Standing.OTHER if named is None else Standing.RULE


def _reasons(
    need: Need, line: CostLine, standing: Standing, named: _Named | None, tiers: Sequence[str]
) -> Iterator[str]:
    found = line.accuracy.measured if line.accuracy else None
    if found is not None:
        yield _measured_reason(need, line, found, standing)
    if standing is Standing.RULE and named is not None:
        yield named.reason
    elif named is not None:
        yield f"the rule for it: {named.reason}"
    elif standing is Standing.OTHER:
        where = f"on tier {', '.join(tiers)}" if tiers else "on no tier"
        yield f"no rule names it; {where}, and within your limits"


def _measured_reason(need: Need, line: CostLine, found: MeasuredAccuracy, standing: Standing) -> str:
    told = accuracy_words(found)
    if need.floor is None:
        return f"{told} on this task; name a --floor to let that decide"
    floor = f"the floor of {percent(need.floor)}"
    cost = line.correct_nusd
    correct = "" if cost is None else f", at {format_usd(whole_nusd(cost))} per correct answer"
    if standing is Standing.PROVEN:
        return f"measured, which goes before any rule: {told} on this task, all of it over {floor}{correct}"
    if standing is Standing.LIKELY:
        return (
            f"measured, which goes before any rule: {told} on this task, over {floor}, though the interval "
            f"reaches below it{correct}"
        )
    if standing is Standing.DOUBTFUL:
        return f"measured: {told} on this task, under {floor}; more samples could still tell otherwise"
    return f"{told} on this task: too few to tell, {LEAST_SCORED} are the least"


def _cautions(need: Need, model: Model, place: Place, latency: Latency | None) -> Iterator[str]:
    if need.longest_input > model.practical_context:
        yield f"its answers degrade past {model.practical_context:,} tokens of input: split longer documents"
    if model.limits.rpd is not None and need.per_day > model.limits.rpd:
        yield f"its limit here is {model.limits.rpd:,} requests a day: put your account's into batcher.toml"
    limit = need.max_latency_s
    if limit is not None and latency is not None and latency.seconds > limit:
        yield (
            f"a whole answer of {need.tokens.output:,} tokens usually takes {latency.seconds:.1f} s, more "
            f"than {limit:g} s: measure it, or ask for shorter answers"
        )
    if limit is not None and latency is None:
        yield f"on {place.value}: its time was never measured, so whether it keeps {limit:g} s is open"


def _notes(need: Need, ranked: Sequence[Recommendation]) -> Iterator[str]:
    if need.floor is None:
        yield "No floor was named. Define the quality floor before you pick a model: --floor 0.85"
    if need.privacy.value != "standard" and not any(found.standing is Standing.RULE for found in ranked):
        yield (
            "No Llama or Mistral answers on your own machines. Serve one with any OpenAI-compatible server, "
            "and tell batcher of it with [providers.NAME] and [models.NAME] in batcher.toml"
        )
    if ranked and ranked[0].standing not in {Standing.PROVEN, Standing.LIKELY}:
        yield (
            "This is advice by rule. Before you ship, put the first three to 20 to 50 of your own documents "
            "whose answers you know (batcher evaluate); change to a cheaper model if, on about 100, it "
            "scores within 5 points"
        )


def accuracy_words(found: MeasuredAccuracy) -> str:
    """``accuracy 91.2 % (88.1 to 93.6 %, 512 scored)``."""
    interval = found.interval
    return (
        f"accuracy {100 * interval.share:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f} %, "
        f"{found.scored:,} scored)"
    )


def percent(share: float) -> str:
    """A share for people: ``85 %``, ``92.5 %``."""
    return f"{round(100 * share, 2):g} %"
