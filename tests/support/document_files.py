"""Files of every kind, made in the tests: nothing here is read from a disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "application/vnd.openxmlformats-officedocument."


def png(width: int = 3, height: int = 2) -> bytes:
    """A whole PNG; the pixels are those of a 1 x 1 picture, as nobody decodes them."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def jpeg(width: int = 640, height: int = 480) -> bytes:
    """A JPEG with a thumbnail (an end mark of its own) in its header."""
    thumbnail = b"\xff\xd8\xff\xd9"
    app1 = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\xff\xda" + struct.pack(">H", 8) + b"\x01\x01\x00\x00\x3f\x00" + bytes(200)
    return b"\xff\xd8" + app1 + frame + scan + b"\xff\xd9"


def gif(width: int = 5, height: int = 4) -> bytes:
    """A GIF of one frame with a global palette."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + screen + b"\x21\xf9\x04\0\0\0\0\0" + frame + b"\x3b"


def webp(width: int = 7, height: int = 6, kind: bytes = b"VP8X") -> bytes:
    """A WebP of each of its three kinds."""
    if kind == b"VP8X":
        content = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        content = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(5)
    else:
        content = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    chunk = kind + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def pdf(pages: list[str], *, trailer: str = "") -> bytes:
    """A PDF whose pages have the content streams given, with Helvetica as ``/F1`` and a picture as ``/Im1``.

    Args:
        pages: PDF operators, see :func:`text_page` and :func:`picture_page`.
        trailer: further entries of the trailer dictionary.
    """
    kids = " ".join(f"{6 + 2 * index} 0 R" for index in range(len(pages)))
    picture = bytes(range(256)) * 4
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/XObject/Subtype/Image/Width 32/Height 32/ColorSpace/DeviceGray/BitsPerComponent 8/Length "
        + str(len(picture)).encode()
        + b">>stream\n"
        + picture
        + b"\nendstream",
        b"<</Font<</F1 3 0 R>>/XObject<</Im1 4 0 R>>>>",
    ]
    for index, content in enumerate(pages):
        stream = content.encode("latin-1")
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Resources 5 0 R"
            + f"/Contents {7 + 2 * index} 0 R>>".encode()
        )
        objects.append(b"<</Length " + str(len(stream)).encode() + b">>stream\n" + stream + b"\nendstream")
    return _pdf_file(objects, trailer)


def _pdf_file(objects: list[bytes], trailer: str) -> bytes:
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(str(number).encode() + b" 0 obj\n" + content + b"\nendobj\n")
    start = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.write(b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets))
    out.write(
        f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n".encode()
    )
    return out.getvalue()


def text_page(*lines: str) -> str:
    """A page with lines of text."""
    shown = " T* ".join(f"({line}) Tj" for line in lines)
    return f"BT /F1 12 Tf 14 TL 50 700 Td {shown} ET"


def picture_page(stray: str = "") -> str:
    """A page filled by a picture, with a few characters of text at most."""
    return "q 600 0 0 800 0 0 cm /Im1 Do Q" + (f" {text_page(stray)}" if stray else "")


def form_pdf(label: str, value: str) -> bytes:
    """A form with one field filled in, whose value stands in an annotation and not on the page itself."""
    page = text_page(label).encode()
    shown = f"BT /F1 12 Tf 2 5 Td ({value}) Tj ET".encode()
    font = b"/Resources<</Font<</F1 3 0 R>>>>"
    return _pdf_file(
        [
            b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[6 0 R]/DA(/F1 12 Tf)>>>>",
            b"<</Type/Pages/Kids[4 0 R]/Count 1>>",
            b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]" + font + b"/Contents 5 0 R/Annots[6 0 R]>>",
            b"<</Length %d>>stream\n%s\nendstream" % (len(page), page),
            b"<</Type/Annot/Subtype/Widget/FT/Tx/T(f)/Rect[200 690 400 715]/F 4/P 4 0 R/AP<</N 7 0 R>>>>",
            b"<</Type/XObject/Subtype/Form/BBox[0 0 200 25]%s/Length %d>>stream\n%s\nendstream"
            % (font, len(shown), shown),
        ],
        "",
    )


def encrypted_pdf() -> bytes:
    """A PDF that no empty password opens."""
    entry = "<" + "41" * 32 + ">"
    encrypt = f"/Encrypt<</Filter/Standard/V 1/R 2/O {entry}/U {entry}/P -4>>/ID[<{'30' * 16}><{'30' * 16}>]"
    return pdf([text_page("a secret that nobody reads")], trailer=encrypt)


def _zip(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            stored = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, stored)
    return out.getvalue()


def _ooxml(part: str, kind: str, members: dict[str, str | bytes]) -> bytes:
    types = (
        f'<Types xmlns="{_TYPES}"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/{part}" ContentType="{_MAIN}{kind}"/></Types>'
    )
    relations = (
        f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
        f'Target="{part}"/></Relationships>'
    )
    return _zip({"[Content_Types].xml": types, "_rels/.rels": relations, **members})


def docx(*paragraphs: str, extra: dict[str, str | bytes] | None = None) -> bytes:
    """A Word file."""
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    main = f'<?xml version="1.0"?><w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'
    members: dict[str, str | bytes] = {"word/document.xml": main, **(extra or {})}
    return _ooxml("word/document.xml", "wordprocessingml.document.main+xml", members)


def pptx(text: str) -> bytes:
    """A PowerPoint file of one slide."""
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/main"
    show = "http://schemas.openxmlformats.org/presentationml/2006/main"
    slide = (
        f'<p:sld xmlns:a="{drawing}" xmlns:p="{show}"><p:cSld><p:spTree><p:sp><p:txBody><a:p><a:r><a:t>{text}'
        "</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>"
    )
    main = (
        f'<p:presentation xmlns:p="{show}" xmlns:r="{_OFFICE}"><p:sldIdLst><p:sldId id="256" r:id="rId1"/>'
        "</p:sldIdLst></p:presentation>"
    )
    relations = (
        f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/slide" '
        'Target="slides/slide1.xml"/></Relationships>'
    )
    members: dict[str, str | bytes] = {
        "ppt/presentation.xml": main,
        "ppt/_rels/presentation.xml.rels": relations,
        "ppt/slides/slide1.xml": slide,
    }
    return _ooxml("ppt/presentation.xml", "presentationml.presentation.main+xml", members)


def xlsx(*cells: str) -> bytes:
    """An Excel file with one row of text cells."""
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    row = "".join(
        f'<c r="{chr(65 + index)}1" t="inlineStr"><is><t>{cell}</t></is></c>'
        for index, cell in enumerate(cells)
    )
    workbook = (
        f'<workbook xmlns="{space}" xmlns:r="{_OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="rId1"/>'
        "</sheets></workbook>"
    )
    relations = (
        f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" Type="{_OFFICE}/worksheet" '
        'Target="worksheets/sheet1.xml"/></Relationships>'
    )
    sheet = f'<worksheet xmlns="{space}"><sheetData><row r="1">{row}</row></sheetData></worksheet>'
    members: dict[str, str | bytes] = {
        "xl/workbook.xml": workbook,
        "xl/_rels/workbook.xml.rels": relations,
        "xl/worksheets/sheet1.xml": sheet,
    }
    return _ooxml("xl/workbook.xml", "spreadsheetml.sheet.main+xml", members)


def epub(text: str, *, locked: bool = False) -> bytes:
    """A book of one chapter."""
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>T</dc:title>'
        '<dc:identifier id="i">x</dc:identifier>'
        '</metadata><manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    chapter = f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title></head><body><p>{text}</p></body></html>'
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "book.opf": package,
        "c.xhtml": chapter,
    }
    if locked:
        members["META-INF/rights.xml"] = "<rights/>"
    return _zip(members)


def plain_zip(name: str = "a.txt", content: str = "x") -> bytes:
    """A ZIP archive of no kind in particular."""
    return _zip({name: content})


def unpacking_to(size: int) -> bytes:
    """A Word file that a decompressor would blow up."""
    return docx("small", extra={"word/media/image1.bin": bytes(size)})


def ole(*streams: str) -> bytes:
    """The beginning of a container of old Office, with names in its directory."""
    return (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(504)
        + b"".join(name.encode("utf-16-le") for name in streams)
    )
