"""``batcher tasks new``: a folder that ``--task DIR`` takes as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from batcher.errors import UsageError

_TASK: Final = '''\
"""{name}: say in one line what this task finds out about a document.

Try it:    batcher tasks check path/to/this/folder
Run it:    batcher submit docs/ --task path/to/this/folder
The parts: task.py (this file), prompt.md (the instructions), golden.jsonl (documents with known answers).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from batcher.tasks import Task, scorers


class Answer(BaseModel):
    """What the model fills in. Bound every text and list: a small model may not stop on its own."""

    title: str = Field(max_length=120, description="The document's title, or what it would be called.")
    topics: list[Annotated[str, Field(max_length=40)]] = Field(
        min_length=1, max_length=5, description="What it is about, most important first."
    )


task = Task(
    name="{name}",
    version=1,  # raise it to have answers made anew
    description="Title and topics of a document.",
    prompt=Path("prompt.md"),
    output=Answer,
    scorer={{"title": scorers.word_f1, "topics": scorers.set_f1}},
    correct_at=0.6,  # a score from here on counts as correct
    floor=0.8,  # the share of correct answers that is good enough
    tier="economy",
    ladder=("economy", "standard", "premium"),
    max_output_tokens=256,  # money is reserved for all of it
    long_documents="merge",
)
'''

_PROMPT: Final = """\
You describe documents for a catalogue. Read the document and give its title and its topics.
Use only what the document says.
"""

_GOLDEN: Final = """\
{"id": "example-1", "text": "Opening hours of the town library. Monday to Friday 9 to 18.", \
"expected": {"title": "Opening hours of the town library", "topics": ["opening hours", "library"]}}
"""


def new_task(folder: Path | str, name: str | None = None) -> Path:
    """Writes a small task that works, to be edited.

    Args:
        folder: where; made if it is not there.
        name: the task's name; taken from the folder's name if left out.

    Returns:
        The path of its task.py.

    Raises:
        UsageError: if the folder holds a task already, cannot be written, or its name makes no task name.
    """
    folder = Path(folder)
    name = name or re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_0123456789")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,47}", name):
        raise UsageError(
            f"{name!r} is no task name. Use up to 48 lower-case letters, digits, _ and -, a letter first."
        )
    files = {
        "task.py": _TASK.format(name=name),
        "prompt.md": _PROMPT,
        "golden.jsonl": _GOLDEN,
    }
    for file in files:
        if (folder / file).exists():
            raise UsageError(f"{folder / file} exists. Name a folder that holds no task.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}.") from error
    return folder / "task.py"
