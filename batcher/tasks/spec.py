"""What a job stores of its task: everything that a worker needs, and no code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import orjson

from batcher.errors import TaskError
from batcher.tasks.entry import RouterSpec, Rule, rules_of_json


@dataclass(frozen=True)
class TaskSpec:
    """A task with its parameters filled in. JSON-serialisable; running it needs no code of the author's.

    Attributes:
        name: the task's name.
        version: the author's version; raise it when answers should be made anew.
        instructions: the rendered prompt, the same for every document of the job.
        merge_instructions: the prompt that makes one answer out of the parts' answers; "" if the task
            rejects long documents.
        schema: JSON Schema that every answer must fit.
        schema_name: a name for it that every vendor takes (letters, digits, ``_``, ``-``; at most 64).
        params: the validated parameters as JSON values.
        locators: parameters that only say where something was read (a model file): not part of the
            fingerprint, because what was read is (in the schema).
        max_output_tokens: the output limit of a call, in tokens.
        temperature: None leaves the vendor's default.
        tier: where the job starts.
        ladder: the tiers that an item may climb, cheapest first, ``tier`` the first of them.
        floor: the least share of correct items that is good enough, 0 to 1.
        correct_at: the score from which an answer counts as correct, 0 to 1.
        long_documents: ``merge`` splits a document that is too long and merges the answers; ``reject``.
        ref: what ``load_task`` finds the task's code by.
        typical_output_tokens: how long a usual answer is, for plans; None if the author does not say. Not
            part of the fingerprint.
        rubric: what a judge goes by, beside the instructions; "" if the author says nothing. Not part of the
            fingerprint.
        stage: which step of the task it is, if not the last.
        hands_over: what the next step reads: ``answer`` or ``answer_and_document``; "" for the last step. Not
            part of the fingerprint: it changes the next step's document.
        judged: whether known answers are no yardstick for a scorer, but for a judge. Not part of it either.
        entry: rules for where a document starts, the first that fits; none of them is part of it.
        router: the model that is asked where a document starts for which no rule decides; neither is it.
    """

    name: str
    version: int | str
    instructions: str = field(repr=False)
    schema: dict[str, Any] = field(repr=False)
    schema_name: str
    max_output_tokens: int
    tier: str
    ladder: tuple[str, ...]
    floor: float
    correct_at: float
    merge_instructions: str = field(default="", repr=False)
    params: dict[str, Any] = field(default_factory=dict)
    locators: dict[str, Any] = field(default_factory=dict)
    temperature: float | None = 0.0
    long_documents: Literal["merge", "reject"] = "reject"
    ref: str = ""
    typical_output_tokens: int | None = None
    rubric: str = field(default="", repr=False)
    judged: bool = False
    stage: str = ""
    hands_over: Literal["", "answer", "answer_and_document"] = ""
    entry: tuple[Rule, ...] = ()
    router: RouterSpec | None = None

    @property
    def task(self) -> str:
        """The task's name, without that of the step."""
        return self.name.partition(".")[0]

    @cached_property
    def fingerprint(self) -> bytes:
        """20 bytes, BLAKE2b over what shapes an answer; the task's part of every result key."""
        shaping = {
            "name": self.name,
            "version": self.version,
            "instructions": self.instructions,
            "merge_instructions": self.merge_instructions,
            "schema": self.schema,
            "params": self.params,
            "max_output_tokens": self.max_output_tokens,
            "temperature": None if self.temperature is None else float(self.temperature),
            "long_documents": self.long_documents,
        }
        canonical = orjson.dumps(shaping, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(canonical, digest_size=20).digest()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def to_json(self) -> str:
        """The spec as JSON, for the store. Fields keep their order: it is the order of the answer."""
        rules = [rule.to_json() for rule in self.entry]
        return orjson.dumps({**asdict(self), "entry": rules}).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> TaskSpec:
        """The spec that :meth:`to_json` wrote, by this version of batcher or a newer one.

        Raises:
            TaskError: if the text is none.
        """
        try:
            stored = orjson.loads(text)
            known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
            known["entry"] = rules_of_json(known.get("entry", ()))
            if (router := known.get("router")) is not None:
                names = RouterSpec.__dataclass_fields__
                known["router"] = RouterSpec(**{name: router[name] for name in names})
            return cls(**{**known, "ladder": tuple(stored["ladder"])})
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise TaskError(f"A stored task cannot be read ({error}). Submit the job again.") from error


def canonical_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON gives them back, so that a stored spec equals the one that was made.

    Raises:
        TaskError: if they hold something that JSON does not.
    """
    try:
        restored = orjson.loads(orjson.dumps(dict(params)))
    except TypeError as error:
        raise TaskError(f"The task's parameters cannot be stored as JSON: {error}.") from error
    assert isinstance(restored, dict)
    return restored
