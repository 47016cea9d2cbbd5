"""Sources of models: read once, strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.external.origin import MAX_LINK, read_link, read_source
from mycoswarm.external.target import Site

HUB = "https://hub.example"


@pytest.mark.parametrize(
    ("text", "shown", "site", "file"),
    [
        (
            "https://a.example/m/tiny.gguf?token=secret#part",
            "https://a.example/m/tiny.gguf",
            Site("https", "a.example", 443, "/m/tiny.gguf?token=secret"),
            "tiny.gguf",
        ),
        (
            "HTTPS://192.168.1.9:8443/tiny.GGUF",
            "https://192.168.1.9:8443/tiny.GGUF",
            Site("https", "192.168.1.9", 8443, "/tiny.GGUF"),
            "tiny.GGUF",
        ),
        (
            "hf:owner/repo/tiny.gguf",
            "hf:owner/repo/tiny.gguf",
            Site("https", "hub.example", 443, "/owner/repo/resolve/main/tiny.gguf"),
            "tiny.gguf",
        ),
        (
            "hf:owner/repo.v2/sub/tiny q4.gguf@refs/pr/1",
            "hf:owner/repo.v2/sub/tiny q4.gguf@refs/pr/1",
            Site("https", "hub.example", 443, "/owner/repo.v2/resolve/refs%2Fpr%2F1/sub/tiny%20q4.gguf"),
            "tiny q4.gguf",
        ),
    ],
)
def test_a_source_is_read_and_shown_without_what_may_be_secret(text: str, shown: str, site: Site, file: str) -> None:
    origin = read_source(text, HUB)
    assert (origin.shown, origin.site, origin.file) == (shown, site, file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tiny.gguf",
        "/home/me/tiny.gguf",
        "http://a.example/tiny.gguf",
        "ftp://a.example/tiny.gguf",
        "https://a.example/tiny.bin",
        "https://a.example/",
        "https:///tiny.gguf",
        "https://me:word@a.example/tiny.gguf",
        "https://a.example\\@b.example/tiny.gguf",
        "https://a.example/ti ny.gguf",
        "https://a.example:0/tiny.gguf",
        "https://a.example:99999/tiny.gguf",
        f"https://a.example/{'x' * MAX_LINK}.gguf",
        "hf:",
        "hf:owner/repo",
        "hf:owner/tiny.gguf",
        "hf:owner/repo/../../etc/tiny.gguf",
        "hf:../repo/tiny.gguf",
        "hf:owner/repo//tiny.gguf",
        "hf:owner/repo/tiny.gguf@../../x",
        "hf:owner/repo/tiny.gguf@a b",
        "hf:owner/repo/tiny.gguf?x=1",
    ],
)
def test_what_is_no_source_is_refused_with_what_would_be_one(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_source(text, HUB)
    assert caught.value.param == "source" and "hf:OWNER/REPO" in caught.value.hint


def test_one_part_of_a_model_in_several_is_refused_before_it_is_fetched() -> None:
    with pytest.raises(InputError, match="one part") as caught:
        read_source("hf:o/r/big-00001-of-00003.gguf", HUB)
    assert "--merge" in caught.value.hint


def test_a_link_may_be_relative_to_where_it_was_found_and_stays_https() -> None:
    base = Site("https", "a.example", 8443, "/x/y?z")
    assert read_link("/w?q=1", base) == Site("https", "a.example", 8443, "/w?q=1")
    assert read_link("//b.example/w", base) == Site("https", "b.example", 443, "/w")
    for foul in ("http://a.example/w", "", "javascript:alert(1)", "//me@b.example/", "https://[::1/", "/ä", "/a b"):
        with pytest.raises(InputError):
            read_link(foul, base)


@given(st.text(), st.text(alphabet="hf:/@.gu-htps%?#[]\\ ", max_size=60))
def test_any_text_is_a_source_or_a_typed_error(text: str, odd: str) -> None:
    for one in (text, odd, f"hf:{odd}", f"https://{odd}", f"https://a.example/{text}.gguf"):
        try:
            origin = read_source(one, HUB)
        except InputError:
            continue
        assert origin.site.scheme == "https" and origin.site.path.startswith("/") and origin.site.path.isascii()
