"""mycoswarm.txt as strangers may write it: one bad line and nothing is taken, and no secret stays behind."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi import FIRMWARE, load

wish = load("wish")

SSH = (
    "ssh-ed25519 "
    + base64.b64encode(struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + bytes(32)).decode()
)
UPDATE = base64.b64encode(b"Ed" + bytes(40)).decode()
TOKEN = "mss1-" + "a2" * 60
WHOLE = f"""# a comment
hostname = pilz-2
wifi_name=Café "Zur Post" $(reboot)
wifi_password=pass word\\x
ssh_key={SSH} me@desk
ssh_key={SSH}
join_token={TOKEN}
update_key={UPDATE}
advertise=10.8.0.2
peers=192.168.7.5:6927
peers=[fd00::5]:6927
"""


def test_a_whole_file_is_read() -> None:
    found = wish.read(WHOLE.encode())
    assert found.problems == ()
    assert (found.hostname, found.wifi_name, found.wifi_password) == (
        "pilz-2",
        'Café "Zur Post" $(reboot)',
        "pass word\\x",
    )
    assert found.ssh_key == (SSH, SSH)  # without its comment
    assert (found.join_token, found.update_key) == (TOKEN, UPDATE)
    assert (found.advertise, found.peers) == (("10.8.0.2",), ("192.168.7.5:6927", "[fd00::5]:6927"))


def test_line_ends_of_a_pc_and_its_byte_order_mark_are_no_trouble() -> None:
    found = wish.read(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert found == wish.read(WHOLE.encode())


@pytest.mark.parametrize(
    "line",
    [
        "hostname=Upper",
        "hostname=-a",
        "hostname=a;reboot",
        "hostname=" + "a" * 33,
        "hostname=a\nhostname=b",
        "colour=blue",
        "just words",
        "export hostname=a",
        "wifi_name=only",
        "wifi_name=a\nwifi_password=short",
        "wifi_name=a\nwifi_password=pass\tword1",
        "wifi_name=a\nwifi_password=pass\x00word1",
        "wifi_name=" + "ä" * 17 + "\nwifi_password=longenough",
        f'ssh_key=command="reboot" {SSH}',
        "ssh_key=ssh-ed25519 AAAA",
        SSH.replace("ssh-ed25519 ", "ssh_key=ssh-rsa "),
        "join_token=mss1-short",
        "join_token=" + TOKEN.upper(),
        "update_key=" + base64.b64encode(b"Xx" + bytes(40)).decode(),
        "advertise=example.org",
        "advertise=fe80::1%eth0",
        "peers=192.168.7.5",
        "peers=192.168.7.5:0",
        "peers=192.168.7.5:65536",
        "peers=fd00::5:6927",
        "\n".join(f"peers=192.168.7.{number}:1" for number in range(9)),
    ],
)
def test_one_bad_line_and_nothing_is_taken(line: str) -> None:
    found = wish.read(f"update_key={UPDATE}\n{line}\n".encode())
    assert found.problems
    assert found.taken == () and found.update_key is None


def test_problems_name_lines_and_never_values() -> None:
    found = wish.read(b"# one\nhostname=SECRET\nwifi_name=x\nwifi_password=SECRET\n")
    assert [each.split(":")[0] for each in found.problems] == ["line 2", "line 4"]
    assert "SECRET" not in "".join(found.problems)


def test_the_file_that_comes_with_the_image_asks_for_nothing() -> None:
    found = wish.read((FIRMWARE / "boot" / "mycoswarm.txt").read_bytes())
    assert found == wish.Wish()


@given(st.binary(max_size=400))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    found = wish.read(data)
    assert not (found.problems and found.taken)


def test_a_long_file_is_refused() -> None:
    assert wish.read(b"#" * 8192).problems == ()
    assert wish.read(b"#" * 8193).problems == ("it is longer than 8192 bytes",)
    assert wish.read(b"\n" * 300).problems == ("it has more than 200 lines",)


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=63)
    .map(str.strip)
    .filter(lambda t: len(t) >= 8)
)
def test_no_secret_stays_in_the_file(password: str) -> None:
    text = f"hostname=pilz\nwifi_name=n\nwifi_password={password}\njoin_token={TOKEN}\n".encode()
    found = wish.read(text)
    assert found.problems == () and found.wifi_password == password
    left = wish.left(text, found, "2026-11-26").decode()
    assert TOKEN not in left and f"={password}" not in left
    assert "#hostname=pilz" in left
    again = wish.read(left.encode())
    assert again == wish.Wish()  # what was taken is asked for once


@given(st.text(min_size=1, max_size=32).filter(lambda name: len(name.encode("utf-8", "replace")) <= 32))
def test_a_network_name_becomes_a_harmless_file_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    file, text = wish.network_file(wish.Wish(wifi_name=name, wifi_password="a b\\c d ef"))
    assert "/" not in file and not file.startswith(".") and file.endswith(".psk") and len(file) < 80
    assert text == "[Security]\nPassphrase=a\\sb\\\\c\\sd\\sef\n"


def test_a_key_in_hexadecimal_is_written_as_one() -> None:
    assert (
        wish.network_file(wish.Wish(wifi_name="n", wifi_password="A" * 64))[1]
        == f"[Security]\nPreSharedKey={'a' * 64}\n"
    )
