"""Reading vendors' exports: every known shape, and every doubt told with its line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.budget.export_cells import CellError, read_amount, read_count, read_day
from batcher.budget.vendor_export import Export, read_export
from batcher.errors import UsageError

PLAIN = "day,model,requests,input_tokens,cached_tokens,output_tokens,cost_usd\n"
BY_CALL = "day,request_id,cost\n"


def read(tmp_path: Path, text: str | bytes, **columns: str) -> Export:
    file = tmp_path / "export.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_export(file, columns)


def refusal(tmp_path: Path, text: str | bytes, **columns: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text, **columns)
    return str(caught.value).removeprefix(str(tmp_path / "export.csv"))


def test_the_plain_format(tmp_path: Path) -> None:
    export = read(tmp_path, PLAIN + '2026-11-20,gpt-4o-mini,3,"1,500",512,300,$0.000405\n')
    [line] = export.lines
    assert (line.number, line.day, line.model, line.requests) == (2, "2026-11-20", "gpt-4o-mini", 3)
    assert (line.input_tokens, line.cached_tokens, line.output_tokens) == (1500, 512, 300)
    assert line.cost_usd == Decimal("0.000405")
    assert export.cost_step_usd == Decimal("0.000001")
    assert export.vendor == ""


def test_openais_usage_by_the_minute(tmp_path: Path) -> None:
    export = read(
        tmp_path,
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,"
        "batch,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens,service_tier\n"
        "1795132800,1795132860,2026-11-20T00:00:00+00:00,2026-11-20T00:01:00+00:00,proj_a,3.0,,key_1,"
        "gpt-4o-mini-2024-07-18,False,4212,1673,1280,2932,default\n"
        "1795132860,1795132920,2026-11-20T00:01:00+00:00,2026-11-20T00:02:00+00:00,,,,,,,,,,,\n",
    )
    [line] = export.lines
    assert (export.vendor, line.day, line.requests) == ("openai", "2026-11-20", 3)
    assert (line.input_tokens, line.cached_tokens, line.output_tokens) == (4212, 1280, 1673)
    assert export.has_tokens
    assert export.has_requests


def test_openais_costs_by_line_item(tmp_path: Path) -> None:
    export = read(
        tmp_path,
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,organization_id\n"
        "1795132800,1795219200,2026-11-20T00:00:00,2026-11-21T00:00:00,0.00383598000000000,usd,"
        '"gpt-4o-mini-2024-07-18, cached input",org\n'
        "1795219200,1795305600,2026-11-21T00:00:00,2026-11-22T00:00:00,,,,org\n",
    )
    [line] = export.lines
    assert (line.model, line.cost_usd) == ("gpt-4o-mini-2024-07-18", Decimal("0.00383598000000000"))
    assert export.days == {"2026-11-20", "2026-11-21"}, "a day without a charge is a day of the export"
    assert not export.has_tokens
    assert not export.has_requests


def test_anthropics_usage_adds_the_parts_of_the_input(tmp_path: Path) -> None:
    export = read(
        tmp_path,
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed\n"
        "2026-11-20,claude-haiku-4-5-20251001,key,Default,batch,≤ 200k,1000,20,3,400,55,0,not_available,\n",
    )
    [line] = export.lines
    assert export.vendor == "anthropic"
    assert (line.input_tokens, line.cached_tokens, line.cache_write_tokens) == (1423, 400, 23)
    assert line.output_tokens == 55
    assert not export.has_requests


def test_anthropics_costs(tmp_path: Path) -> None:
    export = read(
        tmp_path,
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd\n"
        "2026-11-20,Claude Haiku 4.5,Default,key,message,≤ 200k,output,0.02,0.02\n",
    )
    assert (export.vendor, export.lines[0].model) == ("anthropic", "Claude Haiku 4.5")


def test_names_of_the_api_leave_cached_input_out(tmp_path: Path) -> None:
    text = "date,model,input_tokens,cache_read_input_tokens,cache_creation_input_tokens,output_tokens\n"
    [line] = read(tmp_path, text + "2026-11-20,m,10,200,3000,5\n").lines
    assert line.input_tokens == 3210


def test_a_line_for_each_call_counts_as_one(tmp_path: Path) -> None:
    text = "created_at,model,tokens_prompt,tokens_completion,cost_total,generation_id\n"
    lines = "2026-11-20 23:59:59.5,m,10,5,0.001,gen-1\n2026-11-21T00:30:00+01:00,m,10,5,0.001,gen-2\n"
    export = read(tmp_path, text + lines)
    assert [(line.day, line.requests) for line in export.lines] == [("2026-11-20", 1)] * 2
    assert export.has_requests


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "Usage date;Product;API calls;Amount\n2026-11-20;Llama 3.3 70B;12;0,1\n"
    said = refusal(tmp_path, text)
    assert (
        said.endswith(
            "Its columns: Usage date, Product, API calls, Amount. Name the one that holds them, like:"
            " --column day='Usage date'"
        )
        or "requests, tokens or costs" in said
    )
    export = read(tmp_path, text, day="usage date", model="Product", requests="API calls")
    assert [(line.model, line.requests) for line in export.lines] == [("Llama 3.3 70B", 12)]
    assert "has no column 'Nothing'. It has: Usage date" in refusal(tmp_path, text, day="Nothing")


def test_what_spreadsheets_make_of_it(tmp_path: Path) -> None:
    text = "﻿Day;Model;Requests\r\n2026-11-20;m;1\r\n\r\n;;\r\nTotal;;1\r\n"
    export = read(tmp_path, text)
    assert [line.requests for line in export.lines] == [1]
    assert export.left_out == (5,)
    again = read(tmp_path, text.removeprefix("﻿").encode("utf-16"))
    assert again == export
    assert read(tmp_path, 'day,model,requests\n2026-11-20,"two\nlines",1\n').lines[0].model == "two\nlines"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " is empty"),
        ("\n\n", " is empty"),
        (PLAIN, " has a header and nothing beneath it"),
        ("model,requests\nm,1\n", " has no column of days"),
        ("day,model,speed\n2026-11-20,m,3\n", " has no column of requests, tokens or costs"),
        (PLAIN + "2026-11-20,m,1,2\n", ", line 2: has 4 fields, the header 7"),
        (PLAIN + "2026-11-20,m,1,2,0,3,0.1,9\n", ", line 2: has 8 fields, the header 7"),
        (PLAIN + "2026-11-20,m,one,2,0,3,0.1\n", ", line 2: requests 'one' is not a count"),
        (PLAIN + "2026-11-20,m,1.5,2,0,3,0.1\n", ", line 2: requests '1.5' is no whole number"),
        (PLAIN + "2026-11-20,m,-1,2,0,3,0.1\n", ", line 2: requests '-1' is negative"),
        (PLAIN + "2026-11-20,m,1,2,0,3,nan\n", ", line 2: cost_usd 'nan' is not an amount of dollars"),
        (PLAIN + '2026-11-20,m,1,2,0,3,"1,234"\n', ", line 2: cost_usd '1,234' can be read in two ways"),
        (PLAIN + '2026-11-20,m,"1,23",2,0,3,0.1\n', ", line 2: requests '1,23' is not a count"),
        (PLAIN + "2026-11-20,m,1,2,0,3,=1+1\n", ", line 2: cost_usd '=1+1' is not an amount of dollars"),
        (PLAIN + "2026-11-20,m,1,2,5,3,0.1\n", ", line 2: has more cached tokens than input tokens"),
        (PLAIN + "20/11/2026,m,1,2,0,3,0.1\n", ", line 2: day '20/11/2026' is no day"),
        (PLAIN + "0001-01-01,m,1,2,0,3,0.1\n", ", line 2: day '0001-01-01' lies too far away"),
        (PLAIN + "2026-11-20,m,1,2,0,3,0.1\n" * 2, ", line 3: is the same as line 2"),
        (PLAIN + '2026-11-20,"m,1,2,0,3,0.1\n', ", line 2: cannot be read as CSV"),
        (PLAIN.replace("model", "requests"), " has two columns 'requests'"),
        ("day,amount_value,amount_currency\n2026-11-20,1.0,eur\n", ", line 2: is in EUR"),
        ("day,model,requests,cost_eur\n2026-11-20,m,1,1.0\n", " has the column 'cost_eur', and the ledger"),
        ("day,model,requests,Amount (€)\n2026-11-20,m,1,1.0\n", " has the column 'Amount (€)'"),
        (BY_CALL + "2026-11-20,a,1\n2026-11-20,a,2\n", ", line 3: is about the same request as line 2"),
        (BY_CALL.encode() + b"2026-11-20,a,1\n2026-11-20,caf\xe9,1\n", ", line 3: is not UTF-8"),
        (PLAIN.encode() + b"2026-11-20,m\0,1,2,0,3,0.1\n", ", line 2: holds bytes that are no text"),
        (b"PK\x03\x04rest of a workbook", " is a workbook or an archive"),
        (b"\x1f\x8b\x08\x08rest", " is a workbook or an archive"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


def test_a_cost_in_another_currency_beside_one_in_dollars_is_left_alone(tmp_path: Path) -> None:
    [line] = read(tmp_path, "day,model,cost_usd,cost_eur\n2026-11-20,m,1.1,1.0\n").lines
    assert line.cost_usd == Decimal("1.1")
    said = refusal(tmp_path, "day,model,cost_eur\n2026-11-20,m,1.0\n", cost_usd="cost_eur")
    assert said.startswith(" has the column 'cost_eur'")


def test_a_last_line_without_its_end_is_told(tmp_path: Path) -> None:
    whole = PLAIN + "2026-11-20,m,1,2,0,3,0.1025\n"
    assert not read(tmp_path, whole).ends_open
    assert read(tmp_path, whole[:-3]).ends_open


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read"):
        read_export(tmp_path / "none.csv", {})
    with pytest.raises(UsageError, match="Cannot read"):
        read_export(tmp_path, {})


def test_cells() -> None:
    assert read_count("n", "1,234,567") == 1_234_567
    assert read_count("n", "n/a") is None
    assert read_count("n", "3.0") == 3
    assert read_amount("c", "USD 1.5") == Decimal("1.5")
    assert read_amount("c", "1,234.56") == Decimal("1234.56")
    assert read_amount("c", "1.2E-7") == Decimal("0.00000012")
    assert read_day("d", "1795132799") == "2026-11-19"
    assert read_day("d", "1795132800000") == "2026-11-20"
    assert read_day("d", "2026-11-20 17:16:48 UTC") == "2026-11-20"


@given(text=st.text(max_size=12))
def test_no_cell_breaks_the_reader(text: str) -> None:
    for reader in (read_count, read_amount, read_day):
        try:
            value = reader("column", text.strip())
        except CellError as error:
            assert "column" in str(error)  # noqa: PT017 - either is right
        else:
            assert value is None or isinstance(value, (int, Decimal, str))


@given(raw=st.binary(max_size=200))
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(b"day,model,requests,cost_usd\n2026-11-20,m,1,0.5\n" + raw)
    try:
        export = read_export(file, {})
    except UsageError as error:
        assert "any.csv" in str(error)  # noqa: PT017
    else:
        assert export.lines[0].cost_usd == Decimal("0.5")
