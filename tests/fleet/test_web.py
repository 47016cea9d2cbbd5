"""The web by real daemons in namespaces, one of which is the internet: real TLS, and the real judge of addresses.

The coordinator has no way out; a rule sends what reaches out to the node `pi`, which has one.
"""

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certificates import Authority
from daemons import logs_of, until
from fleet.test_tools import rows, type_in, use
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.fleet import ARGV, Fleet, Member
from networks import inside, lay_network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.root]

PUBLIC = "93.184.215.14"  # by its number an address of the internet; here it is the other namespace's
HOSTS = f"127.0.0.1 localhost\n{PUBLIC} news.example\n{PUBLIC} other.example\n10.77.0.1 router.example\n"
WEBSITE = Path(__file__).resolve().parents[1] / "website.py"
# `ip netns exec` gives its program a mount namespace of its own: this file is seen by the daemon alone.
NAMED = ("sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')


@dataclass
class World:
    """Two daemons, and what the two websites heard: the one outside, and the one on the machine of `pi`."""

    fleet: Fleet
    outside: Path
    home: Path

    def fetch(self, url: str, **more: Any) -> dict[str, Any]:
        return use(self.fleet, "fetch_page", url=url, **more)

    def refused(self, url: str) -> str:
        """Fetch what must fail; nobody at home hears of it."""
        before = self.home.read_text()
        told = self.fetch(url)
        assert not told["ok"] and self.home.read_text() == before, told
        outcome = rows(self.fleet.coordinator, "tool")[0]["body"]["outcome"]
        assert isinstance(outcome, str)
        return outcome


def pi_of(world: World) -> Member:
    return world.fleet.workers[0]


def ledgers_of(world: World) -> str:
    kinds = ("decision", "tool", "tool_ticket")
    return json.dumps([rows(member, kind) for member in world.fleet.members for kind in kinds])


def website(stack: ExitStack, namespace: str, hits: Path, *words: str) -> None:
    hits.touch()
    argv = [*inside(namespace), sys.executable, str(WEBSITE), str(hits), *words]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def stop() -> None:
        process.communicate(timeout=10)

    stack.callback(stop)
    assert process.stdout.readline() == "serving\n"


def start(fleet: Fleet, name: str, namespace: str, environment: dict[str, str]) -> None:
    home = fleet.folder / name
    home.mkdir(mode=0o700)
    own = ("--data", str(home), "run", "--name", name, "--peer", ":0", "--threads", "1", "--with-stdin")
    with (home / "daemon.log").open("ab") as sink:
        process = subprocess.Popen(
            [*inside(namespace), *NAMED, str(fleet.folder / "hosts"), *ARGV, *own],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
    fleet.members.append(Member(name, home, process, home / "daemon.log"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("web")
    with ExitStack() as stack:
        near, far, desk = lay_network(stack, 3)
        for words in (
            ("-n", far, "addr", "add", f"{PUBLIC}/32", "dev", "lo"),
            ("-n", near, "route", "add", "default", "via", "10.77.0.2"),
        ):
            subprocess.run(["ip", *words], check=True, timeout=10)
        authority = Authority(folder)
        (folder / "authority.pem").write_bytes(authority.pem())
        numbers = (x509.IPAddress(ipaddress.ip_address(text)) for text in (PUBLIC, "127.0.0.1"))
        names = (x509.DNSName("news.example"), x509.DNSName("router.example"))
        certificate = str(authority.issue(*names, *numbers))
        made = World(Fleet(workers=1, folder=folder), folder / "outside", folder / "home")
        website(stack, far, made.outside, certificate)
        website(stack, near, made.home, certificate)
        (folder / "hosts").write_text(HOSTS)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
        environment["SSL_CERT_FILE"] = str(folder / "authority.pem")
        stack.push(made.fleet.__exit__)
        start(made.fleet, "coordinator", desk, environment)
        start(made.fleet, "pi", near, environment)
        for member in made.fleet.members:
            until(lambda m=member: m.process.poll() is not None or m.call.is_alive(), 60, f"{member.name} serves")
            assert member.process.poll() is None, member.last_words()
        made.fleet.find()
        made.fleet.enrol()
        first = made.fleet.coordinator
        for name, tool in (("pages", "fetch_page"), ("searches", "search_web")):
            words = ("rules", "add", name, "--task", f"tool:{tool}", "--node", "pi", "--position", "1")
            assert type_in(first, *words)[0] == 0
        yield made


def test_a_page_is_read_over_tls_and_no_log_and_no_ledger_holds_its_address(world: World) -> None:
    told = world.fetch("https://news.example/front?secret=word")
    assert told["ok"] and told["node"] == "pi"
    assert told["text"] == (
        "Address: https://news.example/front?secret=word\nTitle: News of the day\n\n# Rain\n\nIt will rain [#1].\n\n"
        "Links:\n[#1] https://news.example/more"
    )
    assert "news.example /front?secret=word" in world.outside.read_text()
    first = world.fleet.coordinator
    ledger = ledgers_of(world)
    assert ledger.count(told["receipt"]) > 2
    for text in (ledger, logs_of(world.fleet)):
        assert "secret=word" not in text and "news.example" not in text
    assert rows(first, "tool")[0]["body"]["outcome"] == "stop"
    assert "pages for tools" not in pi_of(world).call.ask("GET", "/api/doctor")["egress"]["open"]
    code, said, _ = type_in(first, "ledger", "verify")
    assert code == 0, said


def test_an_address_in_numbers_and_a_page_that_moved_are_read_too(world: World) -> None:
    assert "Rain" in world.fetch(f"https://{PUBLIC}/")["text"]
    assert world.fetch("https://news.example/moved")["text"].startswith("Address: https://news.example/front\n")
    assert world.fetch("http://news.example:8080/")["ok"]


@pytest.mark.parametrize(
    "url",
    [
        *("https://news.example/to-router", "https://news.example/to-loopback", "https://router.example/"),
        *(
            "https://10.77.0.1/",
            "http://10.77.0.1:8080/",
            "http://10.77.0.2/",
            "http://127.0.0.1/",
            "http://localhost/",
        ),
        *("http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[fd77::1]/", "http://0x7f000001/", "http://0.0.0.0/"),
    ],
)
def test_no_page_and_no_redirect_reaches_this_machine_or_its_network(world: World, url: str) -> None:
    assert world.refused(url) == "not_public"
    assert not rows(pi_of(world), "egress")  # the guard had nothing to refuse: nothing was tried


def test_what_is_not_protected_as_it_should_be_is_refused(world: World) -> None:
    assert world.refused("https://other.example/") == "page_certificate"
    assert world.refused("https://news.example/to-http") == "page_redirects"
    assert world.refused("https://news.example:6926/") == "bad_address"
    assert world.refused("https://nowhere.example/") == "page_unreachable"


def test_a_search_is_a_tool_once_its_server_is_set_which_may_be_at_home(world: World) -> None:
    first = world.fleet.coordinator
    with pytest.raises(SwarmError, match="no tool called 'search_web'"):
        use(world.fleet, "search_web", query="rain")
    assert "search_web" not in type_in(first, "tool", "list")[1]
    assert type_in(first, "search", "set", "http://127.0.0.1:8080")[0] == 0
    told = use(world.fleet, "search_web", query="rain & snow")
    assert told["text"] == "1. About rain & snow\n   https://news.example/\n   Rain."
    assert "127.0.0.1:8080 /search?q=rain+%26+snow&format=json\n" in world.home.read_text()
    assert "search_web" in type_in(first, "tool", "list")[1]
    assert "127.0.0.1:8080" not in ledgers_of(world) + logs_of(world.fleet)
    assert type_in(first, "search", "unset")[0] == 0
    assert "search_web" not in type_in(first, "tool", "list")[1]


def test_rules_explain_where_a_page_would_be_fetched_and_that_it_would_ask(world: World) -> None:
    first = world.fleet.coordinator
    code, said, _ = type_in(first, "rules", "explain", "--task", "tool:fetch_page")
    assert code == 0 and "The tool would run on pi" in said and "pages" in said
    assert type_in(first, "rules", "disable", "pages")[0] == 0
    code, said, asked = type_in(first, "tool", "run", "fetch_page", '{"url": "https://news.example/x"}', answer="n\n")
    assert code == 3 and "https://news.example/x" in asked
    code, said, _ = type_in(first, "rules", "explain", "--task", "tool:fetch_page")
    assert code == 0 and "the owner is asked" in said
    assert type_in(first, "rules", "enable", "pages")[0] == 0
