"""How a requested job is to be sampled and who judges it: the command line, the task, the settings."""

from __future__ import annotations

from batcher.catalog.models import Catalog, Model
from batcher.domain import Purpose
from batcher.errors import ConfigurationError, UsageError
from batcher.planning.choice import Usable, usable_models
from batcher.quality.sampling import NO_JUDGE, Sampling, chosen_judge, new_seed
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
        ConfigurationError: if that of the task or the settings does not, or a judge needs a key.
    """
    by_task = task.judge if task.judge is not None else quality.judge
    named = chosen_judge([judge, by_task])
    if named is not None:
        _check(catalog, named, is_usable, is_named=judge is not None)
    chosen = chosen_judge([judge, by_task, task.usual_judge])
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


def _check(catalog: Catalog, judge: str, is_usable: Usable, *, is_named: bool) -> None:
    if judge not in catalog.tiers and judge not in catalog.models and judge not in catalog.unpriced:
        message = f"There is no tier and no model {judge!r} that could judge, and it is not {NO_JUDGE!r}"
        if is_named:
            raise UsageError(f"{message}. See: batcher models list")
        raise ConfigurationError(f"{message}: mend judge in the task or in [quality]")
    judge_models(catalog, judge, is_usable)
