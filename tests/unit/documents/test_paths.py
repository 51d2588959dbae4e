from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from batcher.documents.paths import FoundFile, check_paths, find_files, open_regular
from batcher.documents.records import ContentError, Rejected
from batcher.errors import UsageError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree, also the working folder."""
    for name in ("a.txt", "b/c.md", "b/d/e.txt", "b/.git/x.txt", ".hidden.txt", "z.txt", "b/d/f.md"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sources(*paths: str) -> list[str]:
    check_paths(paths)
    return [found.source if found is not None else "-" for found in find_files(paths)]


def test_a_folder_is_walked_in_order_without_hidden_files(tree: Path) -> None:
    assert sources("docs") == ["docs/a.txt", "docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md", "docs/z.txt"]


def test_what_is_named_is_taken_even_if_hidden(tree: Path) -> None:
    assert sources("docs/.hidden.txt", "docs/b/.git") == ["docs/.hidden.txt", "docs/b/.git/x.txt"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("docs/*.txt", ["docs/a.txt", "docs/z.txt"]),
        ("docs/**/*.txt", ["docs/a.txt", "docs/b/d/e.txt", "docs/z.txt"]),
        ("docs/**", ["docs/a.txt", "docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md", "docs/z.txt"]),
        ("**/d/*.md", ["docs/b/d/f.md"]),
        ("docs/?", ["docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md"]),
        ("docs/b/*", ["docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md"]),
        ("*/[az].txt", ["docs/a.txt", "docs/z.txt"]),
        ("docs/.*.txt", ["docs/.hidden.txt"]),
        ("./docs/a*", ["docs/a.txt"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert sources(pattern) == expected
    absolute = str(tree / pattern)
    assert sources(absolute) == [str(tree / name) for name in expected]


def test_a_name_with_brackets_is_a_name(tree: Path) -> None:
    (tree / "x[1].txt").write_text("x")
    assert sources("x[1].txt") == ["x[1].txt"]


@pytest.mark.parametrize("paths", [["no such file"], ["docs/*.pdf"], ["nowhere/*.txt"], [], ["-", "-"]])
def test_what_leads_nowhere_is_an_error_before_anything_is_read(tree: Path, paths: list[str]) -> None:
    with pytest.raises(UsageError):
        check_paths(paths)


def test_each_file_is_taken_once(tree: Path) -> None:
    expected = ["docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md"]
    assert sources("docs/b", "docs/b/c.md", "docs/b/", "docs/b/d") == expected
    assert sources("docs/b/c.md", "docs/b/*.md", "docs/b/**/*.md") == ["docs/b/c.md", "docs/b/d/f.md"]
    assert sources("docs/b/.git/x.txt", "docs/b")[0] == "docs/b/.git/x.txt"


def test_symbolic_links(tree: Path) -> None:
    (tree / "docs/b/d/up").symlink_to(tree / "docs")
    (tree / "docs/self").symlink_to("self")
    (tree / "docs/gone").symlink_to("nowhere")
    (tree / "docs/to_file").symlink_to("a.txt")
    found = sources("docs")
    assert sorted(found) == sorted(set(found))
    assert found == [
        *("docs/a.txt", "docs/b/c.md", "docs/b/d/e.txt", "docs/b/d/f.md"),
        *("docs/gone", "docs/self", "docs/to_file", "docs/z.txt"),
    ]
    for name in ("docs/gone", "docs/self"):
        with pytest.raises(ContentError) as caught:
            open_regular(name)
        assert caught.value.code == "unreadable"


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9\n.txt"
    Path(os.fsdecode(name)).write_text("x")
    (found,) = find_files([str(tmp_path)])
    assert isinstance(found, FoundFile)
    assert found.source.encode().endswith(b"/caf\\xe9\n.txt")
    with open_regular(found.path) as stream:
        assert stream.read() == b"x"


def test_fifos_sockets_and_devices_are_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("fifo", "socket", "/dev/zero"):
            with pytest.raises(ContentError) as caught:
                open_regular(name)
            assert caught.value.code == "unsupported"


def test_folders_nested_deeper_than_the_system_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(30):
        os.mkdir("d" * 200)  # noqa: PTH102
        os.chdir("d" * 200)
    monkeypatch.undo()
    found = list(find_files([str(tmp_path)]))
    assert [type(item) for item in found] == [Rejected]
    assert isinstance(found[0], Rejected)
    assert found[0].code == "unreadable"


def test_folders_and_files_without_permission(tree: Path) -> None:
    (tree / "docs/b").chmod(0)
    (tree / "docs/a.txt").chmod(0)
    script = """
import os, sys
from batcher.documents.paths import find_files, open_regular
from batcher.documents.records import ContentError, Rejected
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)
for found in find_files(["docs"]):
    try:
        code = found.code if isinstance(found, Rejected) else open_regular(found.path).read().decode()
    except ContentError as error:
        code = error.code
    print(found.source, code)
"""
    for parent in (tree, *tree.parents[:2]):
        if parent.owner() == tree.owner():
            parent.chmod(parent.stat().st_mode | 0o055)
    result = subprocess.run(
        [sys.executable, "-c", script, str(tree)], capture_output=True, text=True, check=True
    )
    (tree / "docs/b").chmod(0o755)
    assert result.stdout.split("\n")[:3] == ["docs/a.txt unreadable", "docs/b unreadable", "docs/z.txt z.txt"]
