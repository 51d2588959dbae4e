"""How asking for one answer ends when there is none."""

from __future__ import annotations

from batcher.domain import FailureClass


class Failed(Exception):  # noqa: N818 - an outcome, not an error of the program
    """The lane has no answer for the item."""

    def __init__(self, failure: FailureClass, error: str, *, may_climb: bool) -> None:
        super().__init__(error)
        self.failure = failure
        self.error = error
        self.may_climb = may_climb


class TooLongError(Exception):
    """A request does not fit the model's context."""
