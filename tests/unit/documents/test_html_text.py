from __future__ import annotations

import pytest

from batcher.documents.html_text import text_of_html
from batcher.documents.records import ContentError


def test_reading_order_headings_lists_and_tables() -> None:
    page = """<!doctype html><html><head><title>The  Title</title><style>p{}</style></head><body>
    <script>var hidden = 1</script><noscript>no</noscript><template>t</template>
    <h1>Head <em>line</em></h1><p>One
      two&nbsp;<b>three</b>four</p><ul><li>a<li><a href=x>b</a> c</ul>
    <table><tr><th>Name</th><th>Price</th></tr><tr><td><p>Tea</p></td><td>1<br>2</td></tr></table>
    <pre>x = 1
      y</pre><div hidden>gone</div><p style="display: none">gone too</p></body></html>"""
    assert text_of_html(page) == (
        "The Title\n\n# Head line\n\nOne two\u00a0threefour\n\n- a\n- b c\n\n"
        "Name | Price\nTea | 1\n2\n\nx = 1\n      y"
    )


def test_a_title_that_the_page_repeats_is_given_once() -> None:
    assert text_of_html("<title>Tea</title><h1>Tea</h1><p>x") == "# Tea\n\nx"


@pytest.mark.parametrize("page", ["<html><script>x()</script></html>", "<body></body>", "<p hidden>x</p>"])
def test_nothing_visible(page: str) -> None:
    with pytest.raises(ContentError) as caught:
        text_of_html(page)
    assert caught.value.code == "empty"


def test_nested_deeper_than_python_recurses() -> None:
    assert text_of_html("<div>" * 5_000 + "deep") == "deep"
