"""Labelling on a terminal, by keys alone: shows an answer, takes a key, stores the label at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import click
import orjson

from batcher.cli.keyboard import Keyboard
from batcher.cli.output import note, say, visible_line
from batcher.cli.review_page import HELP, disagreement_lines, render
from batcher.quality.review import (
    Label,
    Opinion,
    ReviewItem,
    last_labelled,
    put_label,
    read_item,
    review_progress,
    review_queue,
    take_label_back,
)
from batcher.store.database import Store
from batcher.tasks.answers import AnswerParser, InvalidAnswerError

_NEXT_PAGE: Final = frozenset({" ", "j", "\r", "\n", "\x1b[6~", "\x1b[B", "\x1bOB"})
_PAGE_BEFORE: Final = frozenset({"b", "k", "\x1b[5~", "\x1b[A", "\x1bOA"})
_QUIT: Final = frozenset({"q", "\x03", "\x04"})


@dataclass(frozen=True, slots=True)
class Desk:
    """What a reviewer works with.

    Attributes:
        store: the store.
        job_id: the job under review.
        by: the reviewer, as ``judged_by`` names them.
        parser: checks an answer that was fixed.
        scorer: see ``put_label``.
        tier: only answers of this tier.
        only_disagreements: only answers of which two said different things.
    """

    store: Store
    job_id: int
    by: str
    parser: AnswerParser
    scorer: Callable[[Any, Any], tuple[float, bool]] | None
    tier: str | None = None
    only_disagreements: bool = False

    def queue(self) -> list[int]:
        """What there is to look at."""
        with self.store.read() as connection:
            return review_queue(
                connection, self.job_id, self.by, tier=self.tier, only_disagreements=self.only_disagreements
            )

    def item(self, item_id: int) -> ReviewItem:
        """One answer."""
        with self.store.read() as connection:
            return read_item(connection, item_id)

    def label(self, item: ReviewItem, label: Label, *, fixed: Any = None, remark: str = "") -> Opinion:
        """Store a label."""
        with self.store.write() as connection:
            now = self.store.now(connection)
            return put_label(
                connection, item, self.by, label, now, fixed=fixed, note=remark, scorer=self.scorer
            )


@dataclass(slots=True)
class Review:
    """One sitting.

    Attributes:
        desk: what it works with.
        keyboard: where keys come from.
        queue: answers still to be shown.
        labelled: labels given in this sitting.
    """

    desk: Desk
    keyboard: Keyboard
    queue: list[int] = field(default_factory=list)
    labelled: int = 0
    _past: list[tuple[int, bool]] = field(default_factory=list)

    def run(self) -> int:
        """Go through the queue until it is empty or the reviewer quits; returns how many were labelled."""
        self.queue = self.desk.queue()
        while self.queue and self._one(self.desk.item(self.queue[0])):
            if not self.queue:
                self._offer_undo()
        return self.labelled

    def _offer_undo(self) -> None:
        """Nothing is left: the last label can still be taken back, which no page would offer any more."""
        click.clear()
        say("That was the last one. u goes back to it, any other key ends the review.")
        if self._key() == "u":
            self._undo()

    def _one(self, item: ReviewItem) -> bool:
        """Show an answer until it is labelled or skipped; whether to go on."""
        number = 0
        while True:
            size = shutil.get_terminal_size()
            page = render(item, self._place(), number, size.columns, size.lines)
            number = page.number
            click.clear()
            say("\n".join(page.lines))
            key = self._key()
            if key in _QUIT:
                return False
            if key in _NEXT_PAGE:
                number += 1
            elif key in _PAGE_BEFORE:
                number -= 1
            elif key == "?":
                click.clear()
                say(HELP)
                self._key()
            elif key == "s":
                self._past.append((self.queue.pop(0), False))
                return True
            elif key == "u":
                if self._undo():
                    return True
            elif key in ("r", "w", "f") and self._label(item, key):
                return True

    def _label(self, item: ReviewItem, key: str) -> bool:
        """Store what a key says; whether there was something to store."""
        if key == "f":
            fixed = self._edited(item.output)
            if fixed is None:
                return False
            own = self.desk.label(item, Label.FIX, fixed=fixed)
        else:
            own = self.desk.label(item, Label.RIGHT if key == "r" else Label.WRONG)
        self.labelled += 1
        self._past.append((self.queue.pop(0), True))
        lines = disagreement_lines(own, item.others(self.desk.by))
        if lines:
            say("\n" + "\n".join(lines))
            say("Any key goes on, u takes your label back.")
            if self._key() == "u":
                self._undo()
        return True

    def _undo(self) -> bool:
        """Go back to the last answer of this sitting, or the last labelled before it; whether there is one.

        Its label is taken back if it was given then.
        """
        item_id, has_label = self._past.pop() if self._past else (self._last_before(), True)
        if item_id is None:
            return False
        if has_label:
            with self.desk.store.write() as connection:
                take_label_back(connection, item_id, self.desk.by)
            self.labelled = max(0, self.labelled - 1)
        self.queue = [item_id, *(other for other in self.queue if other != item_id)]
        return True

    def _last_before(self) -> int | None:
        with self.desk.store.read() as connection:
            return last_labelled(connection, self.desk.job_id, self.desk.by)

    def _place(self) -> str:
        with self.desk.store.read() as connection:
            progress = review_progress(connection, self.desk.job_id, self.desk.by)
        left = len(self.queue)
        return f"job {self.desk.job_id}: {progress.labelled:,} labelled by you, {left:,} to look at"

    def _edited(self, output: Any) -> Any | None:
        """Let the reviewer's editor change an answer until it fits the task; None if they leave it."""
        text = orjson.dumps(output, option=orjson.OPT_INDENT_2).decode() + "\n"
        while True:
            try:
                with self.keyboard.lent():
                    edited = click.edit(text, extension=".json")
            except click.ClickException as error:
                note(f"{error.format_message()}. Set EDITOR to one that is there. Any key goes on.")
                self._key()
                return None
            if edited is None or not edited.strip():
                return None
            try:
                fixed = self.desk.parser.parse(edited)
            except InvalidAnswerError as error:
                note(f"That does not fit the task: {visible_line(error.reason)}")
                note("e edits it again, any other key leaves it.")
                if self._key() != "e":
                    return None
                text = edited
                continue
            return None if fixed == output else fixed

    def _key(self) -> str:
        """The next key; the end of the input and an interrupt count as quitting."""
        try:
            return self.keyboard.read() or "q"
        except (KeyboardInterrupt, EOFError):
            return "q"
