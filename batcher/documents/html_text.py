"""The visible text of an HTML page, in reading order, as light Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from batcher.documents.records import ContentError

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DROPPED: Final = frozenset(
    {
        "script",
        "style",
        "noscript",
        "template",
        "head",
        "svg",
        "math",
        "iframe",
        "object",
        "canvas",
        "audio",
        "video",
    }
)
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS: Final = frozenset(
    {
        "p",
        "table",
        "ul",
        "ol",
        "dl",
        "blockquote",
        "pre",
        "section",
        "article",
        "header",
        "footer",
        "main",
        "nav",
    }
    | {"aside", "form", "fieldset", "figure", "hr", *_HEADINGS}
)
_LINES: Final = frozenset(
    {
        "div",
        "li",
        "tr",
        "dt",
        "dd",
        "br",
        "caption",
        "figcaption",
        "option",
        "address",
        "legend",
        "summary",
        "body",
    }
)
_CELLS: Final = frozenset({"td", "th"})
_SPACES: Final = re.compile(r"[ \t\n\r\f]+")
_HIDDEN_STYLE: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


def text_of_html(markup: str) -> str:
    """Reads what a visitor of the page sees, and its title.

    Headings get their ``#``, list items a dash, table cells a bar between them; scripts, styles and hidden
    elements are left out.

    Raises:
        ContentError: ``empty``, if nothing is visible (a page that a script builds).
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(markup)
    writer = _Writer()
    if tree.body is not None:
        _walk(tree.body, writer)
    body = writer.text()
    title_node = tree.css_first("head > title")
    title = _SPACES.sub(" ", title_node.text()).strip() if title_node is not None else ""
    if not body and not title:
        raise ContentError("empty", "The page has no visible text (a script may build it).")
    if title and title not in body[: 2 * len(title) + 200]:
        return f"{title}\n\n{body}"
    return body


class _Writer:
    """Joins runs of text, remembering how far apart the next one must stand."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._newlines = 0
        self._space = False
        self._pending = ""
        self._first_cell = True
        self._fresh_cell = False
        self.preformatted = 0

    def break_lines(self, newlines: int) -> None:
        if not self._fresh_cell:
            self._newlines = max(self._newlines, newlines)

    def prefix(self, mark: str) -> None:
        self._pending = mark

    def row(self) -> None:
        self._first_cell = True
        self._fresh_cell = False

    def cell(self) -> None:
        if self._parts and not self._first_cell:
            self._parts.append(" | ")
            self._newlines = 0
            self._space = False
        self._first_cell = False
        self._fresh_cell = True

    def write(self, text: str) -> None:
        if self.preformatted:
            self._put(text)
            return
        text = _SPACES.sub(" ", text)
        bare = text.strip(" ")
        self._space = self._space or text.startswith(" ")
        if bare:
            self._put(bare)
            self._space = text.endswith(" ")

    def _put(self, text: str) -> None:
        if self._parts and self._newlines:
            self._parts.append("\n" * self._newlines)
        elif self._parts and self._space and not self._parts[-1].endswith((" ", "\n")):
            self._parts.append(" ")
        self._newlines = 0
        self._space = False
        self._fresh_cell = False
        if self._pending:
            self._parts.append(self._pending)
            self._pending = ""
        self._parts.append(text)

    def text(self) -> str:
        return "".join(self._parts).strip()


def _walk(root: LexborNode, writer: _Writer) -> None:
    """Goes through the tree without recursion: pages nest deeper than Python does."""
    stack: list[tuple[LexborNode, bool]] = [(root, False)]
    while stack:
        node, leaving = stack.pop()
        if leaving:
            _leave(node.tag, writer)
            continue
        if node is not root and node.next is not None:
            stack.append((node.next, False))
        tag = node.tag
        if tag == "-text":
            writer.write(node.text_content or "")
        elif tag is not None and not tag.startswith("-") and tag not in _DROPPED and not _is_hidden(node):
            _enter(tag, writer)
            stack.append((node, True))
            if node.first_child is not None:
                stack.append((node.first_child, False))


def _is_hidden(node: LexborNode) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    return "hidden" in attributes or _HIDDEN_STYLE.search(attributes.get("style") or "") is not None


def _enter(tag: str, writer: _Writer) -> None:
    _break(tag, writer)
    if tag in _HEADINGS:
        writer.prefix(_HEADINGS[tag])
    elif tag == "li":
        writer.prefix("- ")
    elif tag == "tr":
        writer.row()
    elif tag in _CELLS:
        writer.cell()
    elif tag == "pre":
        writer.preformatted += 1


def _leave(tag: str | None, writer: _Writer) -> None:
    if tag is None:
        return
    if tag == "tr":
        writer.row()
    _break(tag, writer)
    if tag == "pre":
        writer.preformatted -= 1
    if tag in _HEADINGS or tag == "li":
        writer.prefix("")


def _break(tag: str, writer: _Writer) -> None:
    if tag in _PARAGRAPHS:
        writer.break_lines(2)
    elif tag in _LINES:
        writer.break_lines(1)
