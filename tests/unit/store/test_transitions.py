"""The one place where states change refuses what domain.py does not allow."""

from __future__ import annotations

import pytest

from batcher.domain import (
    ATTEMPT_TRANSITIONS,
    ITEM_TRANSITIONS,
    JOB_TRANSITIONS,
    AttemptState,
    ItemStatus,
    JobState,
)
from batcher.errors import IllegalTransitionError
from batcher.store.transitions import sources_of


def test_the_sources_of_a_state_are_those_that_lead_to_it() -> None:
    assert set(sources_of(ITEM_TRANSITIONS, ItemStatus.PENDING)) == {"leased", "failed"}
    assert sources_of(ATTEMPT_TRANSITIONS, AttemptState.UNKNOWN) == ["sending"]
    assert "cancelled" not in sources_of(JOB_TRANSITIONS, JobState.RUNNING)


def test_narrowing_to_an_illegal_source_is_refused() -> None:
    with pytest.raises(IllegalTransitionError, match="done to pending"):
        sources_of(ITEM_TRANSITIONS, ItemStatus.PENDING, [ItemStatus.DONE])


def test_a_state_that_nothing_leads_to_is_refused() -> None:
    with pytest.raises(IllegalTransitionError, match="rejected"):
        sources_of(ITEM_TRANSITIONS, ItemStatus.REJECTED)
