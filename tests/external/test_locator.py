"""Addresses of pages: read once, and nothing in them that could be meant for somebody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EndpointError, InputError
from mycoswarm.external.locator import led_on, read_locator, worded


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://Example.org", "https://example.org/"),
        ("http://example.org.:8080/a?b=c#part", "http://example.org:8080/a?b=c"),
        ("https://example.org:443/x", "https://example.org/x"),
        (
            "https://de.wikipedia.org/wiki/Größe?q=ä b".replace(" ", "+"),
            "https://de.wikipedia.org/wiki/Gr%C3%B6%C3%9Fe?q=%C3%A4+b",
        ),
        ("https://müller.example/a%20b", "https://xn--mller-kva.example/a%20b"),
        ("https://[2606:4700::1111]/x", "https://[2606:4700::1111]/x"),
        ("http://example.org?x", "http://example.org/?x"),
    ],
)
def test_an_address_is_read_and_written_in_one_form(given: str, read: str) -> None:
    assert worded(read_locator(given)) == read


@pytest.mark.parametrize(
    "given",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://",
        "https://user@example.org/",
        "https://user:word@example.org/",
        "https://example.org@127.0.0.1/",
        "https://example.org:22/",
        "https://example.org:6926/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/a b",
        "https://exam\tple.org/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://a..b/",
        "https://" + "a" * 70 + ".org/",
        "https://example.org/" + "x" * 3000,
        "https://ex%61mple.org/",
    ],
)
def test_what_is_no_address_of_a_page_is_refused(given: str) -> None:
    with pytest.raises(InputError) as caught:
        read_locator(given)
    assert caught.value.code == "bad_address"


def test_a_page_leads_on_within_the_same_bounds() -> None:
    site = read_locator("https://example.org/a/b")
    assert worded(led_on(site, "../c?d")) == "https://example.org/c?d"
    assert worded(led_on(site, "//other.example/x")) == "https://other.example/x"
    assert worded(led_on(read_locator("http://example.org/"), "https://example.org/")) == "https://example.org/"
    with pytest.raises(EndpointError, match="from https to http"):
        led_on(site, "http://example.org/")
    for bad in ("https://example.org:22/", "javascript:x", "https://u:p@example.org/", "https://["):
        with pytest.raises(InputError):
            led_on(site, bad)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        site = read_locator(f"https://{text}")
    except InputError:
        return
    assert worded(read_locator(worded(site))) == worded(site)
    assert site.path.isascii() and " " not in site.path
