"""Whole corpora: every kind of file in one folder, tables, standard input, limits, and flat memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from batcher.documents.corpus import (
    Parsed,
    Rejected,
    SourceOptions,
    check_columns,
    document_of_images,
    document_of_text,
    read_corpus,
)
from batcher.errors import UsageError
from tests.support import document_files as files

OPTIONS = SourceOptions(max_file_bytes=2_000_000)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(contents: dict[str, bytes | str]) -> None:
    for name, content in contents.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read(*paths: str, options: SourceOptions = OPTIONS, stdin: bytes | None = None) -> dict[str, str]:
    """Source -> text, ``<pictures>``, or ``!code``; in order, each source once."""
    outcomes = list(read_corpus(paths, options, io.BytesIO(stdin) if stdin is not None else None))
    found = {
        outcome.source: f"!{outcome.code}"
        if isinstance(outcome, Rejected)
        else outcome.document.text or f"<{len(outcome.document.images)}>"
        for outcome in outcomes
    }
    assert len(found) == len(outcomes)
    return found


def awkward_files() -> dict[str, bytes | str]:
    return {
        "a scan first.pdf": files.pdf([files.picture_page()] * 6),
        "b.txt": files.jpeg(),
        "c empty.txt": b"",
        "d bom.txt": b"\xef\xbb\xbf",
        "e nul.txt": b"Invoice 17\0\0 total",
        "f.html": "<title>T</title><p>Жизнь</p>".encode("utf-16"),
        "g.docx": files.docx("Hello"),
        "h locked.pdf": files.encrypted_pdf(),
        "i cut.pdf": files.pdf([files.text_page("words of a page")])[:-40],
        "j cut.jpg": files.jpeg()[:100],
        "k old.doc": files.ole("WordDocument"),
        "l locked.docx": files.ole("EncryptedPackage"),
        "m bomb.docx": files.unpacking_to(500_000_001),
        "n big.txt": b"x" * 2_000_001,
        "o limit.txt": b"x" * 2_000_000,
        "p.json": '[{"text": "a"}]',
        "q.xlsx": files.xlsx("Tea", "Coffee"),
        "r.pptx": files.pptx("Slide words"),
        "s.epub": files.epub("Chapter words"),
        "t.rtf": r"{\rtf1 rich words}",
        "u random.bin": bytes(range(256)) * 20,
        "v.md": "# Title",
        "w blank.pdf": files.pdf([""]),
        "x none.pdf": files.pdf([]),
        "y.html": "<script>x</script>",
        "z.pdf": files.pdf([files.text_page("Words of the last file")]),
    }


def test_awkward_files_each_with_text_or_reason() -> None:
    write(awkward_files())
    os.mkfifo("zz fifo")
    Path("zz gone").symlink_to("nowhere")
    found = read(".")
    assert list(found) == sorted(found)
    squeezed = {source.removeprefix("./"): " ".join(text.split()) for source, text in found.items()}
    assert squeezed.pop("o limit.txt") == "x" * 2_000_000
    assert "Tea" in squeezed.pop("q.xlsx")
    assert "Slide words" in squeezed.pop("r.pptx")
    assert "Chapter words" in squeezed.pop("s.epub")
    assert squeezed == {
        "a scan first.pdf": "<6>",
        "b.txt": "<1>",
        "c empty.txt": "!empty",
        "d bom.txt": "!empty",
        "e nul.txt": "Invoice 17 total",
        "f.html": "T Жизнь",
        "g.docx": "Hello",
        "h locked.pdf": "!encrypted",
        "i cut.pdf": "!truncated",
        "j cut.jpg": "!truncated",
        "k old.doc": "!unsupported",
        "l locked.docx": "!encrypted",
        "m bomb.docx": "!too_large",
        "n big.txt": "!too_large",
        "p.json": '[{"text": "a"}]',
        "t.rtf": "rich words",
        "u random.bin": "!binary",
        "v.md": "# Title",
        "w blank.pdf": "!empty",
        "x none.pdf": "!empty",
        "y.html": "!empty",
        "z.pdf": "Words of the last file",
        "zz fifo": "!unsupported",
        "zz gone": "!unreadable",
    }


def test_names_are_storable() -> None:
    Path(os.fsdecode(b"caf\xe9\n.txt")).write_text("x")
    assert read(".") == {"./caf\\xe9\n.txt": "x"}


def test_tables_in_a_folder_and_named() -> None:
    write(
        {
            "d/a.jsonl": '{"id": "k", "text": "row"}\n',
            "d/b.jsonl": '{"title": "no text column"}',
            "d/c.csv": "name,price\ntea,1\n",
            "d/e.csv": "text;n\nrow of csv;1\n",
            "d/f.json": '{"text": "one"}\n{"text": "two"}\n',
            "d/g.json": '{"text": "one object"}',
            "d/h.jsonl": files.jpeg(),
            "d/i.jsonl": "not json at all",
        }
    )
    assert read("d") == {
        "d/a.jsonl#k": "row",
        "d/b.jsonl": '{"title": "no text column"}',
        "d/c.csv": "name,price\ntea,1\n",
        "d/e.csv#1": "row of csv",
        "d/f.json#1": "one",
        "d/f.json#2": "two",
        "d/g.json": '{"text": "one object"}',
        "d/h.jsonl": "<1>",
        "d/i.jsonl": "not json at all",
    }
    by_name = SourceOptions(2_000_000, text_column="name", id_column="price")
    assert read("d", options=by_name) == {
        "d/a.jsonl": "!no_text_column",
        "d/b.jsonl": "!no_text_column",
        "d/c.csv#1": "tea",
        "d/e.csv": "!no_text_column",
        "d/f.json": "!no_text_column",
        "d/g.json": '{"text": "one object"}',
        "d/h.jsonl": "<1>",
        "d/i.jsonl#1": "!bad_row",
    }
    assert read("d/c.csv", options=by_name) == {"d/c.csv#1": "tea"}
    assert read("d/i.jsonl") == {"d/i.jsonl#1": "!bad_row"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["missing.txt"], "missing.txt"),
        (["a.txt", "*.pdf"], r"\*.pdf"),
        (["a.txt", "t.csv"], "'name', 'price'.*--text-column"),
        (["t.jsonl"], "'name'"),
        (["-"], "standard input"),
    ],
)
def test_errors_come_before_anything_is_read(paths: list[str], words: str) -> None:
    write({"a.txt": "x", "t.csv": "name,price\n1,2\n", "t.jsonl": '{"name": 1}\n'})
    with pytest.raises(UsageError, match=words):
        read_corpus(paths, OPTIONS)


def test_columns_are_refused_where_no_table_can_be() -> None:
    write({"a.txt": "x", "t.csv": "name,price\n1,2\n", "odd": "x"})
    Path("odd").write_bytes(b"PAR1")
    for paths in (["a.txt", "t.csv"], ["."], ["-"], ["*.txt"], ["odd"]):
        check_columns(paths, "name", None)
    check_columns(["a.txt"], None, None)
    with pytest.raises(UsageError, match="--text-column and --id-column: there is no table"):
        check_columns(["a.txt"], "name", "price")


def test_standard_input() -> None:
    write({"a.txt": "file"})
    rows = b'{"id": "k", "text": "one"}\r\n{"text": 5}\r\n{"text": "three"}'
    assert read("-", "a.txt", stdin=rows) == {
        "-#k": "one",
        "-#2": "!bad_row",
        "-#3": "three",
        "a.txt": "file",
    }
    assert read("-", stdin=b"") == {"-": "!empty"}
    with pytest.raises(UsageError, match="'body2'"):
        read("-", stdin=b'{"body2": "x"}')


def test_limit_counts_documents_that_can_be_worked_on() -> None:
    write({f"{number}.txt": "" if number % 2 else f"text {number}" for number in range(9)})
    assert read(".", options=SourceOptions(100, limit=2)) == {
        "./0.txt": "text 0",
        "./1.txt": "!empty",
        "./2.txt": "text 2",
    }
    assert read(".", options=SourceOptions(100, limit=0)) == {}


@pytest.mark.parametrize("name", ["known.jsonl", "known.csv", "known"])
@pytest.mark.parametrize("paths", [["."], ["*"], ["a.txt", "{name}"]])
def test_the_file_of_known_answers_is_no_document(name: str, paths: list[str]) -> None:
    row = '{"file": "a.txt", "expected": 1}\n'
    write({"a.txt": "one", "other/known.jsonl": row, name: row})
    paths = [path.format(name=name) for path in paths]
    options = SourceOptions(2_000_000, golden=os.path.realpath(name))
    found = {source.removeprefix("./") for source in read(*paths, options=options)}
    assert found - {"other/known.jsonl"} == {"a.txt"}
    assert name in {source.removeprefix("./").partition("#")[0] for source in read(".")}


def test_rows_of_the_file_of_known_answers_that_bring_a_text_are_documents() -> None:
    rows = '{"text": "two", "expected": 1}\n{"file": "a.txt", "expected": 2}\n'
    write({"a.txt": "one", "known.jsonl": rows})
    options = SourceOptions(2_000_000, golden=os.path.realpath("known.jsonl"))
    assert read(".", options=options) == {"./a.txt": "one", "./known.jsonl#1": "two"}


def test_content_names_the_document() -> None:
    write(
        {
            "a.txt": "same",
            "b.md": b"\xef\xbb\xbfsame",
            "c.txt": "other",
            "d.jsonl": '{"text": "same"}',
            "e.png": files.png(),
        }
    )
    by_source = {
        outcome.source: outcome.document
        for outcome in read_corpus(["."], OPTIONS)
        if isinstance(outcome, Parsed)
    }
    same = document_of_text("same").hash
    assert len(same) == 20
    assert [by_source[name].hash == same for name in ("./a.txt", "./b.md", "./c.txt", "./d.jsonl#1")] == [
        *(True, True, False, True)
    ]
    picture = by_source["./e.png"]
    assert picture.hash == document_of_images(picture.images).hash
    assert len({document.hash for document in by_source.values()}) == 3


def test_leaving_early_stops_the_parser_processes() -> None:
    write({f"{number}.html": f"<p>page {number}</p>" for number in range(200)})
    corpus = read_corpus(["."], OPTIONS)
    assert next(corpus).source == "./0.html"
    workers = [
        process for process in psutil.Process().children() if "spawn_main" in " ".join(process.cmdline())
    ]
    assert workers
    corpus.close()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []


def test_text_alone_starts_no_process_and_imports_no_parser() -> None:
    write({"a.txt": "x", "b.jsonl": '{"text": "y"}'})
    script = """
import sys
import psutil
from batcher.documents.corpus import SourceOptions, read_corpus
print(len(list(read_corpus(["."], SourceOptions(1000)))), len(psutil.Process().children()))
print(sorted({"pebble", "pypdfium2", "kreuzberg", "pyarrow", "selectolax", "chardet"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["2 0", "[]"]


def test_memory_stays_flat() -> None:
    script = """
import resource, sys
from batcher.documents.corpus import SourceOptions, read_corpus
rows = int(sys.argv[1])
with open("rows.jsonl", "w") as out:
    for row in range(rows):
        print('{"id": "row-%d", "text": "%d %s"}' % (row, row, "words " * 160), file=out)
assert sum(1 for _ in read_corpus(["rows.jsonl"], SourceOptions(1_000_000))) == rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", script, rows], capture_output=True, check=True).stdout)
        for rows in ("1000", "200000")
    ]
    assert peaks[1] - peaks[0] < 16, peaks
