"""What the owner asks for gets out of the appliance: a real daemon and the real border.py behind the packet filter."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemons import until
from models import write_random_model
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.enrol import wait_for_role
from mycoswarm.cli.fleet import ARGV
from networks import inside
from pi import load
from walls import PROGRAMS, PUBLIC, ROOT, RULES, WORLD, attempt, nft, running, walled

pytestmark = [pytest.mark.slow, pytest.mark.root]

wicket = load("wicket")
TESTS, APPLIANCE = ROOT / "tests", ROOT / "appliance"
SHUT = "the appliance's packet filter was not opened for it, because its service does not answer"
ENDPOINT = """
import sys
from http.server import ThreadingHTTPServer
from openai_server import OpenAIHandler
class Handler(OpenAIHandler):
    model = "far"
    def log_message(self, *words): pass
server = ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
print("ready", flush=True)
server.serve_forever()
"""
HUB = """
import sys
from pathlib import Path
from certificates import Authority
from hub import serving
folder = Path(sys.argv[1])
authority = Authority(folder)
authority.write()
with serving(authority, (folder / "far.gguf").read_bytes(), "203.0.113.7") as hub:
    hub.sends_to = "/cdn/far.gguf"
    print("ready", flush=True)
    print(hub.port, flush=True)
    sys.stdin.read()
"""
FETCH = """
import asyncio, sys
from pathlib import Path
from mycoswarm.base.egress import Guard, install
from mycoswarm.base.errors import SwarmError
from mycoswarm.daemon.barrier import Barrier
from mycoswarm.daemon.border import Border
from mycoswarm.daemon.courier import Courier
border = Border(install(Guard()), named=(), barrier=Barrier(Path(sys.argv[1])))
courier = Courier(border.outward, border.place, lambda: ())
try:
    print(asyncio.run(courier(*sys.argv[2:])).body.decode())
except SwarmError as error:
    print(error.code, error.message)
"""


@pytest.fixture
def wall(tmp_path: Path) -> Iterator[tuple[str, str]]:
    with walled() as (here, there), running(there, ENDPOINT, folders=(TESTS,)):
        nft(here, "-f", str(RULES))
        yield here, there


@contextmanager
def border(here: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The program of the image, from when it listens on."""
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    (folder / "ask").unlink(missing_ok=True)
    with subprocess.Popen(
        [*inside(here), sys.executable, str(PROGRAMS / "border.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        process_group=0,
    ) as going:
        try:
            until((folder / "ask").exists, 20, "border.py listens")
            assert (folder / "ask").stat().st_mode & 0o777 == 0o660
            yield going
        finally:
            os.killpg(going.pid, 9)  # with its `ip monitor`


@contextmanager
def daemon(here: str, folder: Path, ask: Path, **environment: str) -> Iterator[Call]:
    """A coordinator behind the filter."""
    folder.mkdir(mode=0o700)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MYCOSWARM_")}
    log = folder / "daemon.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*inside(here), *ARGV, "--data", str(folder), "run", "--name", "pi", "--with-stdin", "--threads", "1"],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=sink,
            env={**kept, "MYCOSWARM_BORDER": str(ask), **environment},
            start_new_session=True,
        )
    call = Call(folder)
    try:
        until(lambda: process.poll() is not None or call.is_alive(), 60, "the daemon serves")
        assert process.poll() is None, log.read_text()
        call.ask("POST", "/api/init", {"name": "pi"})
        wait_for_role(call, "coordinator")
        yield call
        assert "Traceback" not in log.read_text()
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def register(call: Call) -> Any:
    given = {"name": "far", "url": f"http://{WORLD[0]}:8080/v1", "place": "outside"}
    return call.ask("POST", "/api/endpoints", given)


def pull(call: Call, url: str) -> dict[str, Any]:
    """The last word of a pull."""
    *_, last = call.stream("POST", "/api/models/pull", {"source": url, "name": None})
    told: dict[str, Any] = json.loads(last)
    return told


def test_an_endpoint_is_registered_with_its_check(wall: tuple[str, str], tmp_path: Path) -> None:
    here, _ = wall
    with daemon(here, tmp_path / "data", tmp_path / "ask") as call:
        began = time.monotonic()
        with pytest.raises(SwarmError) as caught:
            register(call)
        assert SHUT in caught.value.message
        assert "journalctl -u mycoswarm-border" in caught.value.hint
        assert time.monotonic() - began < 5
        with border(here, tmp_path) as service:
            told = register(call)
            assert told["is_checked"] and told["models"] == ["far"]
            assert "passed" not in attempt(here, f"tcp/{WORLD[0]}/8081", f"tcp/{WORLD[0]}/443")
            os.killpg(service.pid, 9)
            assert service.stdout is not None
            assert f"let through for 60 s, for endpoint: {WORLD[0]} port 8080\n" in service.stdout.read()


def test_who_asks_is_the_process_that_answers_at_the_owners_socket(wall: tuple[str, str], tmp_path: Path) -> None:
    here, _ = wall
    with (
        wicket.listening(tmp_path / "ask") as listener,
        daemon(here, tmp_path / "data", tmp_path / "ask") as call,
        ThreadPoolExecutor() as pool,
    ):
        registering = pool.submit(register, call)
        listener.settimeout(20)
        sock, _ = listener.accept()
        with sock, socket.socket(socket.AF_UNIX) as owner:
            owner.connect(str(tmp_path / "data" / "owner.sock"))
            assert wicket.peer_of(sock) == wicket.peer_of(owner) != (os.getpid(), os.getuid(), os.getgid())
        assert SHUT in str(registering.exception(30))


def test_a_model_is_pulled(wall: tuple[str, str], tmp_path: Path) -> None:
    here, there = wall
    write_random_model(tmp_path / "far.gguf", n_layer=4, width=64, vocab=320)
    with running(there, HUB, str(tmp_path), folders=(TESTS, APPLIANCE)) as hub:
        assert hub.stdout is not None
        url = f"https://{WORLD[0]}:{int(hub.stdout.readline())}/o/r/resolve/main/far.gguf"
        trust = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        with daemon(here, tmp_path / "data", tmp_path / "ask", **trust) as call:
            with pytest.raises(SwarmError) as caught:
                pull(call, url)
            assert SHUT in caught.value.message
            with border(here, tmp_path):
                told = pull(call, url)
                assert told["is_checked"] and told["model"]["name"] == "far", told


def test_pages_and_searches_are_brought_in(wall: tuple[str, str], tmp_path: Path) -> None:
    here, _ = wall
    page = ("fetch_page", json.dumps({"url": f"http://{PUBLIC}:8080/"}), "")
    search = ("search_web", '{"query": "x"}', json.dumps({"url": f"http://{WORLD[0]}:8080"}))

    def fetch(*words: str) -> str:
        command = [*inside(here), sys.executable, "-c", FETCH, str(tmp_path / "ask"), *words]
        environment = {**os.environ, "PYTHONPATH": str(APPLIANCE)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert not done.stderr or done.stdout, done.stderr
        return done.stdout

    for words in (page, search):
        assert SHUT in fetch(*words)
    with border(here, tmp_path):
        for words in (page, search):
            assert '"far"' in fetch(*words)
