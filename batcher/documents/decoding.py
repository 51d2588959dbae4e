"""From bytes to text: byte order marks, UTF-8, what chardet finds, and what is not text at all."""

from __future__ import annotations

import codecs
import re
from typing import Final

from batcher.documents.records import ContentError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32 LE stands before UTF-16 LE, whose mark is its beginning."""

_NEVER_GUESSED: Final = (
    # EBCDIC and rarities that chardet knows: for a short file they win by chance far oftener than by right.
    *("cp1140", "cp424", "cp500", "cp875", "cp1026", "cp273", "cp1006", "cp720", "cp856", "cp864"),
    *("ptcp154", "johab", "hp-roman8", "iso8859-3", "iso8859-10", "iso8859-14"),
)

_BETTER_FIRST: Final = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-8": "cp1255",
    "tis-620": "cp874",
    "euc_kr": "cp949",
    "shift_jis_2004": "cp932",
    "euc_jis_2004": "euc_jp",
}
"""True supersets, and for Japanese the everyday code page, which keeps backslash and tilde; used if it fits.
chardet's own remapping takes ISO 8859-2 and 8859-5 for subsets of Windows pages, which they are not."""

_MIN_CONFIDENCE: Final = 0.01
"""Below it chardet 7.7 found nothing that looks like a language: 0.0016 for four stray bytes in ASCII, 0.02
and more for one accented letter in a page of English (measured 2026-11)."""

_CONTROL: Final = bytes([*range(0x01, 0x08), *range(0x0E, 0x1B), 0x7F])
"""Control characters that no text needs; ESC (terminal logs) and 0x1C to 0x1F (library records) pass."""
_HIGH: Final = bytes(range(0x80, 0x100))
_MAX_CONTROL_SHARE: Final = 0.1
_MAX_CONTROLS_UNSEEN: Final = 3
_MAX_NUL_SHARE: Final = 0.5
_SAMPLE_BYTES: Final = 65536
_UTF8_SEQUENCE: Final = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
_LOWER: Final = "àáâãäåæçèéêëìíîïñòóôõöøùúûüßœ"
_UPPER: Final = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ"
_MARKS: Final = "“”„«»•€£§©®™°±²³µ\u00d7½¼¾¿¡ªº"
_WESTERN_LETTER: Final = re.compile(f"[{_LOWER}{_UPPER}]")
_NOT_WESTERN: Final = re.compile(
    f"[^\\t-\\r\\x1b-\\x7e{_LOWER}{_UPPER}{_MARKS}·…\u2018\u2019\u201a\u2013\u2014\u00a0]|[a-z{_LOWER}][{_UPPER}]|[{_LOWER}{_UPPER}]{{3}}"
    f"|[A-Za-z{_LOWER}][{_MARKS}][a-z{_LOWER}]|[A-KM-Za-km-z{_LOWER}]·[a-z]"
)
"""What no Western European text has: other characters, a capital within a word, a sign within a word
(but Catalan l·l)."""

_HUNGARIAN_MISREAD: Final = frozenset("õû")

_WESTERN_PAGES: Final = ("cp1252", "mac-roman", "cp850")
_FEW_LETTERS: Final = 16
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*\Z")
_DECLARED: Final = re.compile(
    rb"""<(?:\?xml[^>]{0,200}?encoding|meta[^>]{0,200}?charset)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""",
    re.IGNORECASE,
)
_DECLARATION_BYTES: Final = 4096
_WEB_NAMES: Final = {
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
"""What browsers read under a declared name (https://encoding.spec.whatwg.org/#names-and-labels)."""


def is_blank(text: str) -> bool:
    """Tells whether nothing of a text is visible: white space, control and zero-width characters only."""
    return not text or _BLANK.match(text) is not None


def decode(data: bytes) -> str:
    """Decodes a file that should be text. NUL characters are removed; a byte order mark is dropped.

    Args:
        data: the whole file.

    Returns:
        The text, always encodable as UTF-8. Bytes that do not belong become U+FFFD.

    Raises:
        ContentError: ``binary``, if it is no text in any encoding.
    """
    text = _decode_marked(data)
    if text is None:
        text = _decode_unmarked(data)
    return text.replace("\0", "") if "\0" in text else text


def encoding_of(sample: bytes) -> str:
    """Names the codec to read a long text file with, judged by its beginning.

    Args:
        sample: the first bytes; may end within a character.

    Raises:
        ContentError: ``binary``.
    """
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return "utf-8-sig" if name == "utf-8" else name.rsplit("-", 1)[0]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        if _is_mostly_utf8(sample):
            return "utf-8"
    else:
        return "utf-8"
    return _guess(sample) or "utf-8"


def _decode_marked(data: bytes) -> str | None:
    for mark, name in _BOMS:
        if data.startswith(mark):
            body = data[len(mark) :]
            if name == "utf-8":
                return _decode_unmarked(body)
            text = body.decode(name, "replace")
            _refuse_control(text.encode())
            return text
    return None


def _decode_unmarked(data: bytes) -> str:
    if b"\0" in data:
        wide = _detect(data[:_SAMPLE_BYTES])
        if wide is not None and wide[0].startswith(("utf-16", "utf-32")):
            text = data.decode(wide[0], "replace")
            _refuse_control(text.encode())
            return text
        if data.count(0) > _MAX_NUL_SHARE * len(data):
            raise ContentError("binary", "More than half of the bytes are NUL: not a text file.")
        data = data.replace(b"\0", b"")
    disguised = _ascii_in_disguise(data)
    if disguised is not None:
        return disguised
    _refuse_control(data)
    return data.decode() if _is_utf8(data) else _decode_legacy(data)


def _decode_legacy(data: bytes) -> str:
    if _is_mostly_utf8(data):
        return data.decode("utf-8", "replace")
    name = _declared(data) or _western_by_sight(data) or _guess(data)
    if name is None:
        return data.decode("utf-8", "replace")
    better = _BETTER_FIRST.get(name)
    if better is not None:
        try:
            return data.decode(better)
        except UnicodeDecodeError:
            pass
    return data.decode(name, "replace")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_mostly_utf8(data: bytes) -> bool:
    """More whole multi-byte sequences than bytes that fit nowhere: only UTF-8 gives that."""
    sequences = _UTF8_SEQUENCE.findall(data)
    in_sequences = sum(map(len, sequences))
    high = len(data) - len(data.translate(None, _HIGH))
    return len(sequences) > 2 * (high - in_sequences)


def _declared(data: bytes) -> str | None:
    """The charset that an XML or HTML file declares, if the whole file fits it."""
    found = _DECLARED.search(data[:_DECLARATION_BYTES])
    if found is None:
        return None
    label = found[1].decode("ascii").lower()
    try:
        name = codecs.lookup(_WEB_NAMES.get(label, label)).name
        text = data.decode(name, "replace")
    except (LookupError, ValueError):
        return None
    return name if text.count("\ufffd") <= len(text) // 1000 else None


def _western_by_sight(data: bytes) -> str | None:
    """Decides texts with a few accents and curly quotes, which are too few for chardet's statistics."""
    if len(data) - len(data.translate(None, _HIGH)) > len(data) // 2:
        return None
    for name in _WESTERN_PAGES:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        if _NOT_WESTERN.search(text) is None and not _HUNGARIAN_MISREAD.issubset(text):
            return name if len(_WESTERN_LETTER.findall(text)) <= _FEW_LETTERS else None
    return None


def _guess(data: bytes) -> str | None:
    """What chardet takes it for; None where it finds no language, and the caller keeps UTF-8.

    Raises:
        ContentError: ``binary``.
    """
    found = _detect(data)
    if found is None:
        raise ContentError("binary", "The content is binary data, not text in any known encoding.")
    name, confidence = found
    return name if confidence >= _MIN_CONFIDENCE else None


def _detect(data: bytes) -> tuple[str, float] | None:
    import chardet

    found = chardet.detect(data, prefer_superset=False, compat_names=False, exclude_encodings=_NEVER_GUESSED)
    name = found["encoding"]
    return None if name is None else (name, found["confidence"])


def _ascii_in_disguise(data: bytes) -> str | None:
    """Reads 7-bit encodings (UTF-7, ISO-2022, HZ) that are valid ASCII, and so valid UTF-8 too."""
    if not data.isascii() or not any(mark in data for mark in (b"+", b"\x1b$", b"~{")):
        return None
    found = _detect(data)
    if found is None or not found[0].startswith(("utf-7", "iso2022", "hz")):
        return None
    try:
        text = data.decode(found[0])
        text.encode()
    except UnicodeError:
        return None
    return text


def _refuse_control(data: bytes) -> None:
    """Stops binary data that happens to decode.

    Raises:
        ContentError: ``binary``.
    """
    controls = len(data) - len(data.translate(None, _CONTROL))
    if controls > _MAX_CONTROLS_UNSEEN and controls > _MAX_CONTROL_SHARE * len(data):
        raise ContentError("binary", "The content is full of control characters: binary data, not text.")
