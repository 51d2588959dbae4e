# ruff: noqa: RUF001 - the samples are what people write
from __future__ import annotations

import codecs
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.documents.decoding import decode, encoding_of, is_blank
from batcher.documents.records import ContentError

RUSSIAN = "Привет, это обычный русский текст о погоде в Москве. Сегодня холодно и идёт снег."
JAPANESE = "今日は天気がいいので、公園を散歩しました。これはテストです。"
SAMPLES = [
    ("cp1252", "Il a mangé au café “Central” – déjà vu, très bien, où êtes-vous allé cet été?"),
    ("iso8859-1", "Viel schöne Grüße aus München, wo die Bäume blühen und die Vögel singen."),
    (
        "iso8859-2",
        "Zażółć gęślą jaźń. Dzisiaj w Warszawie świeci słońce i jest bardzo ciepło, proszę państwa.",
    ),
    ("cp1250", "Zażółć gęślą jaźń. Dzisiaj w Warszawie świeci słońce i jest bardzo ciepło, proszę państwa."),
    ("mac-roman", "Le conseil a décidé que l'élève était arrivé à l’heure, très tôt, où ça."),
    *[(name, RUSSIAN) for name in ("cp1251", "koi8-r", "cp866", "iso8859-5", "mac-cyrillic")],
    ("cp1253", "Καλημέρα σας, αυτό είναι ένα ελληνικό κείμενο για τον καιρό στην Αθήνα."),
    ("cp1255", "שלום לכם זה טקסט רגיל בעברית על מזג האוויר היום"),
    ("cp1256", "مرحبا بكم هذا نص عربي عادي عن الطقس في القاهرة اليوم"),
    ("cp1254", "Bugün hava çok güzel, İstanbul’da güneş ışıl ışıl parlıyor, şöyle böyle"),
    ("cp874", "สวัสดีครับ วันนี้อากาศดีมาก เราไปเดินเล่นกัน"),
    *[(name, JAPANESE) for name in ("cp932", "euc_jp", "iso2022_jp")],
    ("gb18030", "今天天气很好，我们去公园散步，然后一起吃午饭。这是一个测试文件。"),
    ("hz", "今天天气很好，我们去公园散步，然后一起吃午饭。"),
    ("big5", "今天天氣很好，我們去公園散步，然後一起吃午飯。這是一個測試文件。"),
    ("cp949", "오늘은 날씨가 좋아서 공원을 산책했습니다. 이것은 시험입니다."),
    ("iso2022_kr", "오늘은 날씨가 좋아서 공원을 산책했습니다."),
    ("utf-7", RUSSIAN),
    *[(name, "Grüße aus München") for name in ("utf-8", "utf-8-sig", "utf-16", "utf-32")],
    *[(name, "Plain words, Grüße") for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")],
    ("utf-16-le", RUSSIAN),
]


@pytest.mark.parametrize(("encoding", "text"), SAMPLES)
def test_decodes_what_people_have(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == text


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_utf8_comes_back_unless_it_begins_with_a_mark(text: str) -> None:
    decoded = decode(codecs.BOM_UTF8 + text.encode())
    if not text.isascii():
        assert decoded == text


@given(st.binary(max_size=2000))
def test_any_bytes_give_storable_text_or_a_reason(data: bytes) -> None:
    try:
        text = decode(data)
    except ContentError as error:
        text = error.code
    text.encode()
    assert "\0" not in text


@pytest.mark.parametrize("text", ["C++ and 1+1", '{"tel": "+4915112345678"}', "a ~{ b }~", "x += y + z"])
def test_ascii_with_plus_signs_stays_ascii(text: str) -> None:
    assert decode(text.encode()) == text


def test_nul_bytes_are_removed_from_good_text() -> None:
    assert decode(b"Invoice 17\0\0 total \0 12.50\n") == "Invoice 17 total  12.50\n"
    assert decode("Grüße\0 aus".encode("cp1252")) == "Grüße aus"


def test_stray_bytes_do_not_turn_a_utf8_file_into_mojibake() -> None:
    data = "Ένα κείμενο ".encode() * 20 + b"\xff\xfe\x80" + " με λάθη".encode()
    text = decode(data)
    assert text.startswith("Ένα κείμενο")
    assert text.endswith("\ufffd\ufffd\ufffd με λάθη")


def test_stray_bytes_in_ascii_are_replaced_but_one_accent_is_read() -> None:
    garbage = decode(b"Customer note: " + b"x" * 200 + b"\xff\xfe\x80 caf\xe9 end\n")
    assert garbage.startswith("Customer note: xxx")
    assert garbage.endswith(" end\n")
    assert "\ufffd" in garbage
    assert "café" in decode(("An English page. " * 50 + "A café. " + "More of it. " * 50).encode("cp1252"))


def test_text_cut_within_a_character() -> None:
    assert decode("Grüße, schöne Bäume, Öfen".encode() + "ü".encode()[:1]).startswith(
        "Grüße, schöne Bäume, Öfen"
    )


def test_mac_apostrophe_is_not_a_letter() -> None:
    assert "Blanchard’s" in decode(("some long log line " * 400 + "Blanchard’s Trackpad").encode("mac-roman"))


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ('<?xml version="1.0" encoding="Shift_JIS"?>', "cp932"),
        ('<meta charset="iso-8859-1">', "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=euc-kr">', "cp949"),
    ],
)
def test_a_declared_charset_is_honoured(declaration: str, encoding: str) -> None:
    text = {"cp932": "ア", "cp1252": "ß", "cp949": "좋"}[encoding]
    assert decode(f"{declaration}<p>{text}</p>".encode(encoding)).endswith(f"<p>{text}</p>")


def test_a_wrongly_declared_charset_is_not() -> None:
    assert "Grüße" in decode('<?xml version="1.0" encoding="Shift_JIS"?><p>Grüße</p>'.encode())


@pytest.mark.parametrize(
    "data",
    [random.Random(7).randbytes(4000), bytes(1000), bytes(range(1, 8)) * 30],
    ids=["random", "nul", "controls"],
)
def test_binary_is_refused(data: bytes) -> None:
    with pytest.raises(ContentError) as caught:
        decode(data)
    assert caught.value.code == "binary"


@pytest.mark.parametrize("text", ["", " \n\t", "\ufeff", "\u200b\u200e \r\n", "\x01\x1a"])
def test_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "  . ", "\u200bx", "語"])
def test_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_encoding_of_a_sample_cut_within_a_character() -> None:
    assert encoding_of("id,text\n1,Grüße".encode()[:-2]) == "utf-8"
    assert encoding_of(codecs.BOM_UTF8 + b"id,text") == "utf-8-sig"
    assert encoding_of("id,text\n1,x".encode("utf-16")) == "utf-16"
    assert codecs.lookup(encoding_of("id,text\n1,Grüße aus München".encode("cp1252"))).name == "cp1252"
