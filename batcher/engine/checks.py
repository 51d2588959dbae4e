"""What is said of an answer before it may stand on a step of a learned ladder: by code, and by a model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from batcher.domain import Document
from batcher.engine.call import Ask
from batcher.errors import TaskError
from batcher.planning.admission import result_key
from batcher.quality.judge import judged_document, verdict_of
from batcher.tasks.rendering import document_messages

if TYPE_CHECKING:
    from batcher.engine.lane import Lane
    from batcher.tasks.definition import Task

_log = logging.getLogger("batcher.ladder")

_MOST_TOLD: Final = 300


class Verifier:
    """The verifier of a job's task. What is wrong with it is told once: the answers it was to look at climb.

    Args:
        job_id: the job.
        task: the task's code; None where it cannot be loaded.
    """

    def __init__(self, job_id: int, task: Task | None) -> None:
        self._job_id = job_id
        self._task = task
        self._has_complained = False

    def __call__(self, text: str, output: str) -> float | None:
        """What it says of an answer, 0 to 1; None if it says nothing.

        Args:
            text: the document's.
            output: the answer, JSON text.
        """
        if self._task is None:
            self._complain("the code of their task cannot be loaded here")
            return None
        try:
            return self._task.verify(text, orjson.loads(output))
        except TaskError as error:
            self._complain(str(error))
            return None

    def _complain(self, why: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            _log.warning(
                "Answers of job %s cannot be verified, and climb: %s",
                self._job_id,
                why[:_MOST_TOLD],
                extra={"job_id": self._job_id},
            )


@dataclass(eq=False)
class RungJudge:
    """The judge of a learned ladder, bound to its model.

    Attributes:
        lane: its own lane: the same job, the judging of its task as the task, its model.
    """

    lane: Lane
    _has_complained: bool = False

    def ask(self, document: Document, output: str) -> Ask:
        """What it is asked about an answer. Its verdict is kept by question and content."""
        judging = self.lane.spec
        read = judged_document(document.text, (), output, None)
        return Ask(result_key(judging, read), 0, document_messages(judging, read))

    def word(self, answer: Any) -> float:
        """What its verdict comes to, 0 to 1."""
        return verdict_of(answer).grade

    def complain(self, why: str) -> None:
        """Tell once that it gives no verdicts: answers climb then, which costs more."""
        if not self._has_complained:
            self._has_complained = True
            job_id = self.lane.job.id
            _log.warning(
                "An answer of job %s could not be judged, and climbs: %s",
                job_id,
                why[:_MOST_TOLD],
                extra={"job_id": job_id},
            )
