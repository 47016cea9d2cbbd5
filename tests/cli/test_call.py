"""The command line's way to the daemon: whatever goes wrong there is an error in words."""

import http.server
import json
import threading
from pathlib import Path

import pytest

from cli.socketed import Canned, answering
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import (
    ApiKeyError,
    BusyError,
    InputError,
    NotFoundError,
    ProtocolError,
    RefusedError,
    StorageError,
    SwarmError,
    TicketError,
    TrustError,
    UnreachableError,
)
from mycoswarm.cli.call import Call, as_error


def test_a_request_carries_its_body_and_gives_the_json_of_the_answer(tmp_path: Path) -> None:
    canned = Canned(body=b'{"name": "pi"}')
    with answering(tmp_path, canned) as call:
        assert call.ask("POST", "/api/init", {"name": "pi"}, {"x-more": "1"}) == {"name": "pi"}
    method, path, body, headers = canned.asked[0]
    assert (method, path, json.loads(body)) == ("POST", "/api/init", {"name": "pi"})
    assert headers["x-more"] == "1" and headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (ApiKeyError("no key"), ApiKeyError),
        (RefusedError("no place"), TrustError),
        (TicketError("no ticket"), TrustError),
        (NotFoundError("no model"), NotFoundError),
        (InputError("bad"), InputError),
        (StorageError("full"), SwarmError),
        (UnreachableError("gone"), SwarmError),
        (BusyError("busy", retry_after_s=3), SwarmError),
    ],
)
def test_an_error_comes_back_as_it_was_raised(tmp_path: Path, sent: SwarmError, kind: type[SwarmError]) -> None:
    body = json.dumps(error_body(sent)).encode()
    with answering(tmp_path, Canned(status=sent.status, body=body)) as call, pytest.raises(kind) as caught:
        call.ask("GET", "/api/node")
    assert (caught.value.message, caught.value.hint, caught.value.code) == (sent.message, sent.hint, sent.code)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {}}', b"\xff\xfe", b"7"])
def test_an_error_in_no_shape_of_ours_is_still_an_error(body: bytes) -> None:
    assert "the daemon failed" in as_error(body).message


def test_a_folder_without_a_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    call = Call(tmp_path)
    with pytest.raises(UnreachableError, match="no mycoswarm-node answers here") as caught:
        call.ask("GET", "/api/node")
    assert "mycoswarm-node run" in caught.value.hint
    assert not call.is_alive()


def test_the_socket_of_a_daemon_that_was_killed_is_no_daemon(tmp_path: Path) -> None:
    with answering(tmp_path, Canned()) as call:
        assert call.is_alive()
    with pytest.raises(UnreachableError, match="no mycoswarm-node answers here"):
        call.ask("GET", "/api/node")


def test_a_daemon_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    done = threading.Event()

    def hang(handler: http.server.BaseHTTPRequestHandler) -> None:
        done.wait(10)

    with answering(tmp_path, Canned(act=hang)) as call:
        with pytest.raises(UnreachableError, match=r"said nothing for 0\.05 s"):
            call.ask("GET", "/api/node", timeout_s=0.05)
        done.set()


def test_lines_come_one_by_one_and_a_broken_stream_is_an_error(tmp_path: Path) -> None:
    def break_off(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"4\r\none\n\r\n4\r\ntw")

    with answering(tmp_path, Canned(act=break_off)) as call:
        lines = call.stream("GET", "/api/models")
        assert next(lines) == b"one\n"
        with pytest.raises(UnreachableError, match="stopped answering"):
            list(lines)


@pytest.mark.parametrize("body", [b"", b'{"name": ', b"{}", b"1"])
def test_an_answer_that_is_cut_off_is_a_daemon_that_stopped_whatever_came(tmp_path: Path, body: bytes) -> None:
    canned = Canned(body=body, length=100)
    with answering(tmp_path, canned) as call, pytest.raises(UnreachableError, match="stopped answering"):
        call.ask("GET", "/api/node")


def test_an_answer_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    with answering(tmp_path, Canned(body=b'{"name": ')) as call, pytest.raises(ProtocolError):
        call.ask("GET", "/api/node")


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/api/a b", {}), ("/api/ü", {}), ("/", {"x-mycoswarm-route": "dachböden→"}), ("/", {"x": "a\r\nb: c"})],
)
def test_what_http_cannot_carry_is_said(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    with answering(tmp_path, Canned()) as call, pytest.raises(InputError, match="cannot be sent"):
        call.ask("GET", path, None, headers)
