"""A server's address: one normal form, read as everybody reads it, and a typed error for all else."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError
from mycoswarm.base.url import DEFAULT_PORTS, read_base

NORMAL = {
    "http://rack": "http://rack",
    "http://rack/": "http://rack",
    "HTTPS://API.Example.:443/V1//": "https://api.example/V1",
    "http://rack:80/v1": "http://rack/v1",
    "http://rack:443/v1": "http://rack:443/v1",
    "http://rack:08000/v1": "http://rack:8000/v1",
    "http://192.168.1.5:8000/v1": "http://192.168.1.5:8000/v1",
    "http://[FE80:0::1]:8000": "http://[fe80::1]:8000",
    "http://xn--mnchen-3ya.example/a%20b": "http://xn--mnchen-3ya.example/a%20b",
    "http://my_box/v1": "http://my_box/v1",
}


@pytest.mark.parametrize("text", NORMAL)
def test_an_address_has_one_normal_form(text: str) -> None:
    assert str(read_base(text)) == NORMAL[text] == str(read_base(NORMAL[text]))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rack",
        "rack:8000",
        "//rack",
        "ftp://rack",
        "file:///etc/passwd",
        "http:rack",
        "http:///v1",
        "http://",
        "http://:80",
        "http://rack:",
        "http://rack:0",
        "http://rack:65536",
        "http://rack:-1",
        "http://rack:8a",
        "http://user@rack",
        "http://user:word@rack",
        "http://rack?x",
        "http://rack?",
        "http://rack#",
        "http://rack/a b",
        "http://rack\n",
        "http://rack/\r\nX: y",
        "http://räck",
        "http://rack\\@evil",
        "http://-rack",
        "http://ra..ck",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.0.0.1",
        "http://0x7f000001",
        "http://0177.0.0.1",
        "http://1.2.3.4.5",
        "http://1.2.3.256",
        "http://0.0.0.0",
        "http://224.0.0.251",
        "http://[::]",
        "http://[::1",
        "http://::1",
        "http://[::1]x",
        "http://[fe80::1%25eth0]",
        "http://[rack]",
        "http://rack/a/../b",
        "http://rack/a/%2e%2E/b",
        "http://rack/./b",
        "http://rack//b",
        "http://rack/%zz",
        "http://rack/" + "a" * 2048,
        "http://" + "a" * 64,
        "http://rack/<b>",
    ],
)
def test_what_is_no_address_is_a_typed_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_base(text)
    assert (caught.value.code, caught.value.param) == ("bad_url", "url")
    assert "word" not in f"{caught.value.message} {caught.value.hint}".replace("password", "")


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:\[\]@%/?#\\-]{1,30}", fullmatch=True))
def test_any_text_is_a_typed_error_or_has_a_form_that_everybody_reads_alike(text: str) -> None:
    try:
        site = read_base(text)
    except InputError:
        return
    url = str(site)
    parts = urlsplit(url)
    assert read_base(url) == site and parts.geturl() == url
    assert (site.host, site.authority, site.path) == (parts.hostname, parts.netloc, parts.path)
    assert site.port == (parts.port or DEFAULT_PORTS[site.scheme])
    assert parts.scheme in ("http", "https") and parts.hostname and parts.username is None
    assert not parts.query and not parts.fragment
