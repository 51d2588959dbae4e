from __future__ import annotations

import sys
from pathlib import Path

import pytest

from batcher.errors import TaskError
from batcher.tasks import Task
from batcher.tasks.registry import list_tasks, load_task

TASK = """
from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from batcher.tasks import Task
from .fields import LONGEST


class Answer(BaseModel):
    inner: Inner


class Inner(BaseModel):
    text: str = Field(max_length=LONGEST)


task = Task(name="mine", version=1, prompt=Path("prompt.md"), output=Answer, scorer=lambda e, o: e == o)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my task"
    folder.mkdir()
    (folder / "task.py").write_text(TASK, encoding="utf-8")
    (folder / "fields.py").write_text("LONGEST = 7\n", encoding="utf-8")
    (folder / "prompt.md").write_text("Read it.\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("what", ["", "task.py"])
def test_a_users_folder_is_a_task(folder: Path, what: str) -> None:
    task = load_task(str(folder / what))
    spec = task.spec()
    assert task.home == folder
    assert spec.ref == str(folder)
    assert spec.instructions == "Read it."
    assert spec.schema["properties"]["inner"]["properties"]["text"]["maxLength"] == 7
    assert load_task(spec.ref).spec() == spec
    assert task.score({"a": 1}, {"a": 1}).value == 1


def test_a_relative_path_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert load_task("./my task").spec().ref == str(folder)
    assert load_task("my task").name == "mine"
    monkeypatch.chdir(folder)
    assert load_task("task.py").name == "mine"


def test_an_edited_task_is_read_anew(folder: Path) -> None:
    assert load_task(str(folder)).version == 1
    (folder / "task.py").write_text(TASK.replace("version=1", "version=2"), encoding="utf-8")
    assert load_task(str(folder)).version == 2


def test_two_folders_do_not_get_into_each_others_way(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("task.py", "prompt.md"):
        (other / name).write_bytes((folder / name).read_bytes())
    (other / "fields.py").write_text("LONGEST = 9\n", encoding="utf-8")
    first, second = load_task(str(folder)), load_task(str(other))
    lengths = [
        task.spec().schema["properties"]["inner"]["properties"]["text"]["maxLength"]
        for task in (first, second)
    ]
    assert lengths == [7, 9]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n1 / 0\n", "task.py, line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n", "task.py, line 1: SyntaxError"),
        (
            "import no_such_module_here\n",
            "line 1: ModuleNotFoundError: No module named 'no_such_module_here'",
        ),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        ("from batcher.tasks import Task\n\nTask(name='t')\n", "line 3: TypeError"),
        ("x = 1\n", "defines no `task`"),
        ("task = 'hello'\n", "defines no `task`"),
        ("from .fields import oops\n", "line 1: ImportError"),
        ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two"),
        ("from .broken import x\n", "broken.py, line 2: NameError"),
        (TASK.replace("version=1", "version=1, floor=80"), "floor 80 is not between 0 and 1"),
        (TASK.replace("version=1", "version=1, ladder=('local',)"), "does not hold its tier"),
    ],
)
def test_broken_code_is_told_in_one_line_with_file_and_line(folder: Path, code: str, message: str) -> None:
    (folder / "task.py").write_text(code, encoding="utf-8")
    (folder / "broken.py").write_text("\noops\n", encoding="utf-8")
    with pytest.raises(TaskError) as caught:
        load_task(str(folder))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_that_breaks_later_is_told_too(folder: Path) -> None:
    code = TASK.replace("output=Answer", "output=lambda params: {}[1]").replace(
        "lambda e, o: e == o", "lambda e, o: 1/0"
    )
    (folder / "task.py").write_text(code, encoding="utf-8")
    task = load_task(str(folder))
    with pytest.raises(TaskError, match=r"output of task 'mine' failed: .*task\.py, line 20: KeyError"):
        task.spec()
    with pytest.raises(
        TaskError, match=r"scorer of task 'mine' failed: .*task\.py, line 20: ZeroDivisionError"
    ):
        task.score(1, 1)


def test_a_failed_import_leaves_nothing_behind(folder: Path) -> None:
    before = set(sys.modules)
    (folder / "task.py").write_text("1 / 0\n", encoding="utf-8")
    with pytest.raises(TaskError):
        load_task(str(folder))
    assert not [name for name in set(sys.modules) - before if name.endswith(".task")]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("enrichmnt", "Did you mean enrichment"),
        ("zzzzzz", "batcher tasks list"),
        ("", "There is no task"),
        ("./no/such/place", "There is no file or folder"),
        ("nowhere.py", "There is no file or folder"),
    ],
)
def test_what_is_not_there_is_said_so(
    ref: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=message):
        load_task(ref)


def test_a_folder_without_a_task(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"holds no task\.py.*batcher tasks new"):
        load_task(str(tmp_path))


def test_a_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "enrichment").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(load_task("enrichment"), Task)
    with pytest.raises(TaskError, match="holds no task"):
        load_task("./enrichment")


def test_the_built_in_tasks_are_listed() -> None:
    infos = {info.name: info for info in list_tasks() if info.origin.startswith("batcher ")}
    assert infos.keys() == {"classification", "enrichment", "extraction", "summarization"}
    for info in infos.values():
        assert (info.error, info.tier) == ("", "economy")
        assert info.description
        assert info.floor is not None


def test_starting_on_another_tier_moves_the_ladder(folder: Path) -> None:
    ladder = 'version=1, ladder=("economy", "standard", "premium")'
    (folder / "task.py").write_text(TASK.replace("version=1", ladder), encoding="utf-8")
    task = load_task(str(folder))
    assert task.spec().ladder == ("economy", "standard", "premium")
    assert task.spec(tier="standard").ladder == ("standard", "premium")
    assert task.spec(tier="local").ladder == ("local",), "free work must not climb to dear work unasked"
    assert task.spec(tier="local").fingerprint == task.spec().fingerprint
    assert task.spec(floor=0.0).floor == 0.0
    assert task.spec(max_output_tokens=9).max_output_tokens == 9
