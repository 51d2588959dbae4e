"""How a job's answers are drawn for checking, and who judges them: what its ``sampling`` column holds."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import orjson

from batcher.store.sampling import Draw

if TYPE_CHECKING:
    from batcher.store.jobs import Job

NO_JUDGE: Final = "none"
"""What a user writes for no judge, where the task or the settings name one."""

_SEED_BITS: Final = 63
_FLOAT_BITS: Final = 53
"""Whole numbers of so many bits are exact as floats, and so are their shares of the largest."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a job is sampled.

    Attributes:
        share: the probability with which an answer is drawn, 0 to 1; 0 draws none.
        at_least: so many first answers of every tier and model are drawn with certainty.
        seed: what the lots are made of.
        judge: the tier or model that judges what was drawn and has no known answer; None: nobody does.
        judge_own: whether a model may judge its own answers.
    """

    share: float
    at_least: int
    seed: int
    judge: str | None = None
    judge_own: bool = False

    @classmethod
    def of(cls, job: Job) -> Sampling | None:
        """How a job is sampled, or None."""
        return None if job.sampling is None else cls.from_json(job.sampling)

    @classmethod
    def from_json(cls, stored: str) -> Sampling:
        """What ``to_json`` wrote, by this version of batcher or a newer one."""
        read = orjson.loads(stored)
        return cls(**{name: read[name] for name in cls.__dataclass_fields__ if name in read})

    def to_json(self) -> str:
        """As JSON, for the store."""
        return orjson.dumps(asdict(self)).decode()

    def draws(self) -> bool:
        """Whether anything is drawn at all."""
        return self.share > 0

    def lot(self, job_id: int, result_key: bytes, *, is_first: bool) -> Draw | None:
        """The lot of an answer; None if it surely draws nothing.

        Args:
            job_id: its job.
            result_key: its item's.
            is_first: whether it may be among the first ``at_least`` of its tier and model.
        """
        if not self.draws():
            return None
        number = uniform(self.seed, job_id, result_key)
        if not is_first and number >= self.share:
            return None
        return Draw(number, self.share, self.at_least if is_first else 0)


def new_seed() -> int:
    """A seed that nobody can guess."""
    return secrets.randbits(_SEED_BITS)


def uniform(seed: int, job_id: int, result_key: bytes) -> float:
    """A number from 0 to below 1 that looks random and is the same whenever it is asked for."""
    digest = blake2b(b"%d %d " % (seed, job_id) + result_key, digest_size=8, person=b"sample").digest()
    return (int.from_bytes(digest, "big") >> (64 - _FLOAT_BITS)) / (1 << _FLOAT_BITS)


def chosen_judge(named: Iterable[str | None]) -> str | None:
    """The judge out of what the command line, the task and the settings name, strongest first."""
    first = next((name for name in named if name), None)
    return None if first == NO_JUDGE else first
