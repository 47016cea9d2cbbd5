"""An endpoint's URL and key: read once, strictly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.external.target import Site, Target, check_secret, read_url


@pytest.mark.parametrize(
    ("url", "site", "authority"),
    [
        ("http://rack.local:8000/v1", Site("http", "rack.local", 8000, "/v1"), "rack.local:8000"),
        ("HTTPS://Api.Example.com/openai/v1/", Site("https", "api.example.com", 443, "/openai/v1"), "api.example.com"),
        ("http://192.0.2.5:11434", Site("http", "192.0.2.5", 11434, "/v1"), "192.0.2.5:11434"),
        ("http://[2001:db8::1]:8080/", Site("http", "2001:db8::1", 8080, "/v1"), "[2001:db8::1]:8080"),
        ("http://[fe80::1%25eth0]/v1", Site("http", "fe80::1%eth0", 80, "/v1"), "[fe80::1]"),
        ("https://rack:80", Site("https", "rack", 80, "/v1"), "rack:80"),
        ("http://rack:8080", Site("http", "rack", 8080, "/v1"), "rack:8080"),
    ],
)
def test_a_url_is_read(url: str, site: Site, authority: str) -> None:
    assert read_url(url) == site and site.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rack:8000",
        "ftp://rack/v1",
        "file:///etc/passwd",
        "http://",
        "http://:80/v1",
        "http://owner:word@rack/v1",
        "http://rack@elsewhere/v1",
        "http://rack\\@elsewhere/v1",
        "http://rack/v1?key=x",
        "http://rack/v1#x",
        "http://rack:0/v1",
        "http://rack:99999/v1",
        "http://rack:x/v1",
        "http://ra ck/v1",
        "http://rack/v1\r\nX-Evil: 1",
        "http://rack/v1\t",
        "http://räck/v1",
        "http://[::1/v1",
        "http://rack..local/v1",
        "http://rack/<v1>",
        "http://" + "a" * 64 + "/v1",
        "http://rack/" + "a" * 3000,
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        read_url(url)
    assert caught.value.param == "url" or "address" in caught.value.message


@given(st.text(max_size=40) | st.text("htps:/[]@%?#.01a\\", max_size=40).map(lambda tail: "http://" + tail))
def test_any_text_is_a_site_or_a_typed_error(url: str) -> None:
    try:
        site = read_url(url)
    except InputError:
        return
    assert (
        site.host and 0 < site.port < 65536 and site.path.startswith("/") and not set(site.authority) & set(" @/\r\n")
    )


@pytest.mark.parametrize("secret", ["", "two words", "line\r\nX: 1", "schlüssel", "x" * 5000])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(InputError) as caught:
        check_secret(secret)
    assert not secret or secret not in caught.value.message


def test_the_key_is_in_no_repr() -> None:
    assert "sk-deep" not in repr(Target(name="rack", url="http://rack", place="LAN", secret="sk-deep"))
