"""How a requested job is to be sampled and who judges it: the command line, the task, the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from batcher.catalog.models import Catalog, Model
from batcher.domain import Purpose
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.choice import Usable, usable_models
from batcher.planning.naming import start_tier
from batcher.quality.sampling import NO_JUDGE, Sampling, chosen_judge, new_seed

if TYPE_CHECKING:
    from batcher.settings import QualitySettings
    from batcher.tasks.definition import Task


def plan_sampling(
    task: Task,
    catalog: Catalog,
    is_usable: Usable,
    quality: QualitySettings,
    *,
    purpose: Purpose = Purpose.ANSWER,
    sample: float | None = None,
    judge: str | None = None,
) -> Sampling:
    """How a job is to be sampled.

    Args:
        task: its task.
        catalog: tiers and models.
        is_usable: whether a model can be called.
        quality: what the settings say.
        purpose: what the job is for; only answers are drawn from.
        sample: what ``--sample`` says, if anything.
        judge: what ``--judge`` says, if anything.

    Raises:
        UsageError: if the judge that the command line names does not exist.
        ConfigurationError: if that of the task, its scorer or the settings does not, or a judge needs a key:
            that of a scorer only where known answers are measured, elsewhere its answers wait for one.
    """
    says_itself = task.judge is not None or task.is_judged
    by_task = task.judge if says_itself else quality.judge
    named = chosen_judge([judge, by_task])
    if named is not None:
        _check(catalog, named, is_usable, is_named=judge is not None)
    chosen = chosen_judge([judge, by_task, task.usual_judge])
    if chosen is not None and named is None:
        check_exists(catalog, chosen)
        if purpose is Purpose.GOLDEN:
            judge_models(catalog, chosen, is_usable)
    share = next(share for share in (sample, task.sample, quality.sample) if share is not None)
    return Sampling(
        share=share if purpose is Purpose.ANSWER else 0.0,
        at_least=quality.at_least,
        seed=new_seed() if quality.seed is None else quality.seed,
        judge=chosen,
        judge_own=quality.judge_own,
    )


def judge_models(catalog: Catalog, judge: str, is_usable: Usable) -> tuple[Model, ...]:
    """The models that can judge, first choice first: a tier's, or the one that is named.

    Raises:
        CatalogError: if there is no such tier or model.
        ConfigurationError: if none can be used.
    """
    if judge in catalog.tiers:
        return usable_models(catalog, judge, None, is_usable)
    return usable_models(catalog, judge, judge, is_usable)


def judge_tier(catalog: Catalog, judge: str, model: Model) -> str:
    """The tier whose cap a judge's calls stand under: the one that is named as judge, or the model's own."""
    return judge if judge in catalog.tiers else start_tier(catalog, "", None, model.name)


def only_judge_themselves(
    catalog: Catalog, sampling: Sampling, is_usable: Usable, answering: Iterable[str]
) -> list[str]:
    """Those of the models that answer whose answers no judge may look at, because each is its only judge."""
    if sampling.judge is None or sampling.judge_own:
        return []
    try:
        judges = {model.name for model in judge_models(catalog, sampling.judge, is_usable)}
    except ConfigurationError:
        return []  # its answers wait for a judge, and the job's report says so
    return [name for name in answering if judges == {name}]


def is_known(catalog: Catalog, judge: str) -> bool:
    """Whether there is a tier or a model of a name."""
    return judge in catalog.tiers or judge in catalog.models or judge in catalog.unpriced


def check_exists(catalog: Catalog, judge: str, *, is_named: bool = False) -> None:
    """Refuse a judge that is neither a tier nor a model.

    Args:
        catalog: tiers and models.
        judge: the name.
        is_named: whether the command line names it, and not the task or the settings.

    Raises:
        UsageError: if the command line names it.
        ConfigurationError: if something else does.
    """
    if is_known(catalog, judge):
        return
    message = f"There is no tier and no model {judge!r} that could judge, and it is not {NO_JUDGE!r}"
    if is_named:
        raise UsageError(f"{message}. See: batcher models list")
    raise ConfigurationError(f"{message}: mend judge in the task, or in its scorer judged(), or in [quality]")


def _check(catalog: Catalog, judge: str, is_usable: Usable, *, is_named: bool) -> None:
    check_exists(catalog, judge, is_named=is_named)
    judge_models(catalog, judge, is_usable)
