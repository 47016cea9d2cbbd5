"""An endpoint's URL and key: read once, strictly."""

import pytest

from mycoswarm.base.errors import InputError
from mycoswarm.base.url import Site
from mycoswarm.external.target import Target, check_secret, read_url


@pytest.mark.parametrize(
    ("url", "site", "authority"),
    [
        ("http://rack.local:8000/v1", Site("http", "rack.local", 8000, "/v1"), "rack.local:8000"),
        ("HTTPS://Api.Example.com/openai/v1/", Site("https", "api.example.com", 443, "/openai/v1"), "api.example.com"),
        ("http://192.0.2.5:11434", Site("http", "192.0.2.5", 11434, "/v1"), "192.0.2.5:11434"),
        ("http://[2001:db8::1]:8080/", Site("http", "2001:db8::1", 8080, "/v1"), "[2001:db8::1]:8080"),
        ("https://rack:80", Site("https", "rack", 80, "/v1"), "rack:80"),
        ("http://rack:8080", Site("http", "rack", 8080, "/v1"), "rack:8080"),
    ],
)
def test_a_url_is_read(url: str, site: Site, authority: str) -> None:
    assert read_url(url) == site and site.authority == authority


def test_what_no_endpoint_can_have_is_refused() -> None:
    with pytest.raises(InputError):
        read_url("http://owner:word@rack/v1")


@pytest.mark.parametrize("secret", ["", "two words", "line\r\nX: 1", "schlüssel", "x" * 5000])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(InputError) as caught:
        check_secret(secret)
    assert not secret or secret not in caught.value.message


def test_the_key_is_in_no_repr() -> None:
    assert "sk-deep" not in repr(Target(name="rack", url="http://rack", place="LAN", secret="sk-deep"))
