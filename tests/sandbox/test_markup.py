"""Pages as readable text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.sandbox.markup import MAX_LINKS, readable

PAGE = "https://example.org/a/page.html"


def text_of(html: str) -> str:
    return readable(html).text


def test_a_page_is_its_title_and_its_paragraphs() -> None:
    found = readable("<title> A &amp;\n B </title><h2>Head</h2><p>One <b>bold</b>\n word.<p>Two<br>lines")
    assert (found.title, found.text) == ("A & B", "## Head\n\nOne bold word.\n\nTwo\nlines")


def test_lists_are_lines_with_marks() -> None:
    html = "<ul><li>one<li>two<ol start=3><li><p>in</p><p>more</p></li><li>out</ol></ul><p>after"
    assert text_of(html) == "- one\n- two\n  3. in\n    more\n  4. out\n\nafter"


def test_tables_are_rows() -> None:
    html = "<table><tr><th>A</th><th>B<tr><td>1<br>x</td><td></td><td>3</td></tr></table>"
    assert text_of(html) == "A | B\n1 x |  | 3"


def test_a_table_that_only_places_things_is_no_table() -> None:
    inner = "<table><tr><td>x</td><td>y</td></tr></table>"
    assert text_of(f"<table><tr><td><p>a</p>{inner}<p>b</td></tr></table>") == "a\n\nx | y\n\nb"


def test_code_keeps_its_lines_and_quotations_their_marks() -> None:
    assert text_of("<pre>\n  if x:\n    y\n</pre><blockquote>said<br>twice") == "  if x:\n    y\n\n> said\n> twice"


def test_links_are_numbered_where_the_address_is_known() -> None:
    html = '<p><a href="b">B</a>, <a href="#top">up</a>, <a href="/c">C</a>, <a href="b"><h3>B</h3></a><a href="d"></a>'
    found = readable(html, PAGE)
    assert found.text == "B [#1], up, C [#2],\n\n### B [#1]"
    assert found.links == ("https://example.org/a/b", "https://example.org/c")
    assert "[#" not in text_of(html) and not readable(html).links


@pytest.mark.parametrize("href", ["javascript:x()", "mailto:a@b", "data:text/html,x", "http://[", "file:///etc/passwd"])
def test_links_that_are_no_page_are_text_alone(href: str) -> None:
    assert readable(f'<a href="{href}">text</a>', PAGE).text == "text"


def test_links_have_an_end() -> None:
    html = "".join(f"<a href='{number}'>x</a> " for number in range(MAX_LINKS + 50))
    found = readable(html, PAGE)
    assert found.text.count("[#") == len(found.links) == MAX_LINKS


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>run_shell</script>",
        "<style>run_shell</style>",
        "<!-- run_shell -->",
        "<nav>run_shell</nav>",
        "<template>run_shell</template>",
        "<p hidden>run_shell</p>",
        "<p aria-hidden=true>run_shell</p>",
        "<div style='color:red; DISPLAY : none'><b>run_shell</b></div>",
        "<span style='font-size:0px'>run_shell</span>",
        "<div role=navigation>run_shell</div>",
        "<textarea>run_shell</textarea>",
        "<![CDATA[run_shell]]>",
    ],
)
def test_what_a_reader_does_not_see_is_left_out(hidden: str) -> None:
    assert text_of(f"<p>before</p>{hidden}<p>after</p>") == "before\n\nafter"


def test_a_style_that_only_looks_like_hiding_hides_nothing() -> None:
    assert text_of("<p style='opacity:0.9; font-size: 0.8em; display:block'>shown</p>") == "shown"


def test_the_main_part_is_taken_where_there_is_one() -> None:
    assert text_of("<p>around<main><p>inside</main>") == "inside"
    assert text_of("<p>around<article><p>inside</article>") == "inside"
    assert text_of("<article>one</article><article>two</article>") == "one\n\ntwo"
    assert text_of("<p>around</p><main> </main>") == "around"


@pytest.mark.slow
def test_nesting_without_end_ends() -> None:
    assert text_of("<div>" * 20_000 + "deep") == "deep"
    assert text_of("<blockquote><ul><li>" * 2000 + "deep").endswith("deep")


TAGS = "p table tr td li ul ol pre br h1 dl dd blockquote main a/href=x div/hidden"


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([f"<{close}{name}>" for name in TAGS.split() for close in ("", "/")])
        | st.sampled_from(["&", "&#0;", "<", "<!--", "-->"])
        | st.text(max_size=5),
        max_size=40,
    )
)
def test_any_markup_becomes_text(parts: list[str]) -> None:
    found = readable("".join(parts), PAGE)
    found.text.encode("utf-8")
    assert "\0" not in found.text and "\r" not in found.text
