"""Browsers at the console: signing in, the cookie, the token against other sites, guessing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from consoles import Console, console
from mycoswarm.api.dashboard import POLICY, dashboard_routes
from mycoswarm.api.pulse import Pulse, Section, pulse_routes
from mycoswarm.api.session import COOKIE, MAX_FAILURES, MAX_FAILURES_OF_ALL, Porch, Throttle, session_routes, token_of
from mycoswarm.base.errors import BusyError
from mycoswarm.store.apikey import Keys
from mycoswarm.store.database import Store
from mycoswarm.store.login import Logins


class House:
    """A console with sign-in, over a real database."""

    def __init__(self, c: Console, porch: Porch, keys: Keys) -> None:
        self.c, self.porch, self.keys = c, porch, keys
        self.owner = keys.create("boss", 1.0, is_owner=True)
        self.plain = keys.create("guest", 1.0)

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> tuple[int, dict[str, str], Any]:
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.c.port}", "Connection: close", *headers]
        raw = await self.c.raw("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)
        head, _, rest = raw.partition(b"\r\n\r\n")
        first, *more = head.decode().split("\r\n")
        told = dict(line.lower().split(": ", 1) if ":" in line else (line, "") for line in more)
        told["set-cookie"] = next((line[12:] for line in more if line.lower().startswith("set-cookie: ")), "")
        return int(first.split()[1]), told, json.loads(rest) if rest.startswith(b"{") else rest

    async def sign_in(self, secret: str) -> tuple[str, str]:
        """The header with the cookie, and the session's token for changes."""
        status, headers, told = await self.ask("POST", "/login", {"key": secret})
        assert status == 200, told
        return f"Cookie: {headers['set-cookie'].split(';')[0]}", f"X-CSRF-Token: {told['csrf']}"


async def change(request: Request) -> JSONResponse:
    return JSONResponse({"by": request.scope["state"]["key_name"]})


@asynccontextmanager
async def house(tmp_path: Path, more: Sequence[Route] = ()) -> AsyncIterator[House]:
    store = Store(tmp_path / "node.db")
    keys = Keys(store)
    porch = Porch(Logins(store, keys), Throttle())
    (tmp_path / "web" / "views").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text("<!doctype html><title>x</title>")
    (tmp_path / "web" / "views" / "a.js").write_text("export const a = 1;")
    (tmp_path / "secret").write_text("nobody's")
    pages = [*dashboard_routes(tmp_path / "web"), *session_routes(porch)]
    routes = [Route("/api/thing", change, methods=["GET", "POST"]), *more]
    async with console(owner_routes=routes, open_routes=lambda services: pages, porch=porch, check=keys.check) as c:
        yield House(c, porch, keys)
    store.close()


def test_a_key_opens_a_session_whose_cookie_no_script_and_no_other_site_can_use(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            status, headers, told = await h.ask("POST", "/login", {"key": h.owner})
            assert (status, told["key"], told["is_owner"]) == (200, "boss", True) and h.owner not in json.dumps(told)
            cookie = headers["set-cookie"].lower()
            assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
            session, token = await h.sign_in(h.owner)
            status, _, shown = await h.ask("GET", "/login", None, session)
            assert (status, shown["key"]) == (200, "boss") and token.endswith(shown["csrf"])
            for more in ((), ("Cookie: mycoswarm_session=x",)):
                assert (await h.ask("GET", "/login", None, *more))[2] == {"is_signed_in": False}
            assert (await h.ask("GET", "/api/thing", None, session))[2] == {"by": "boss"}

    asyncio.run(main())


def test_a_change_needs_the_sessions_own_token(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            session, token = await h.sign_in(h.owner)
            other = (await h.sign_in(h.owner))[1]
            for more in ((), ("X-CSRF-Token: x",), ("X-CSRF-Token:",), (other,)):
                status, _, told = await h.ask("POST", "/api/thing", {}, session, *more)
                assert (status, told["error"]["code"]) == (403, "bad_csrf")
            assert (await h.ask("POST", "/api/thing", {}, session, token))[0] == 200
            status, _, told = await h.ask("POST", "/api/thing", {}, f"Authorization: Bearer {h.owner}")
            assert (status, told) == (200, {"by": "boss"})
            foreign = await h.ask("POST", "/api/thing", {}, session, token, "Origin: http://evil.example")
            assert (foreign[0], foreign[2]["error"]["code"]) == (403, "foreign_origin")

    asyncio.run(main())


def test_a_plain_key_comes_in_and_reaches_nothing_of_the_owners(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            session, token = await h.sign_in(h.plain)
            assert (await h.ask("GET", "/login", None, session))[2]["is_owner"] is False
            assert (await h.ask("GET", "/v1/models", None, session))[0] == 200
            for method in ("GET", "POST"):
                status, _, told = await h.ask(method, "/api/thing", {}, session, token)
                assert (status, told["error"]["code"]) == (403, "not_an_owner_key")

    asyncio.run(main())


def test_a_session_ends_by_signing_out_and_with_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            one, token = await h.sign_in(h.owner)
            other, _ = await h.sign_in(h.plain)
            assert (await h.ask("DELETE", "/api/session", None, one, token))[0] == 200
            assert (await h.ask("GET", "/api/thing", None, one))[2]["error"]["code"] == "session_over"
            assert (await h.ask("GET", "/v1/models", None, other))[0] == 200
            h.keys.revoke("guest")
            status, _, told = await h.ask("GET", "/v1/models", None, other)
            assert (status, told["error"]["code"]) == (401, "session_over")

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("end", ["revoked", "signed out"])
def test_the_stream_of_events_ends_with_its_session(tmp_path: Path, end: str) -> None:
    async def main() -> None:
        secret = ["before"]

        async def told() -> str:
            return secret[0]

        pulse = Pulse([Section("thing", told, 0.0)], "run1")
        async with house(tmp_path, pulse_routes(pulse)) as h:
            session, token = await h.sign_in(h.owner)
            reader, writer = await asyncio.open_connection("127.0.0.1", h.c.port)
            writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{h.c.port}\r\n{session}\r\n\r\n".encode())
            async with asyncio.timeout(10):
                heard = await reader.readuntil(b'"before"')
                if end == "revoked":
                    h.keys.revoke("boss")
                else:
                    assert (await h.ask("DELETE", "/api/session", None, session, token))[0] == 200
                secret[0] = "after"
                heard += await reader.readuntil(b"0\r\n\r\n")  # the last chunk
            writer.close()
            assert b"before" in heard and b"after" not in heard
            await pulse.close()

    asyncio.run(main())


def test_who_guesses_is_made_to_wait_and_others_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for _ in range(MAX_FAILURES):
                assert (await h.ask("POST", "/login", {"key": "msk-no"}))[0] == 401
            status, headers, told = await h.ask("POST", "/login", {"key": h.owner})
            assert (status, told["error"]["code"]) == (429, "busy") and int(headers["retry-after"]) > 50
            assert (await h.ask("GET", "/v1/models", None, f"Authorization: Bearer {h.plain}"))[0] == 200

    asyncio.run(main())


def test_who_guesses_many_at_once_has_no_more_guesses(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            told = await asyncio.gather(*(h.ask("POST", "/login", {"key": "msk-no"}) for _ in range(40)))
            assert sorted({status for status, _, _ in told}) == [401, 429]
            assert sum(status == 401 for status, _, _ in told) == MAX_FAILURES

    asyncio.run(main())


def test_failures_count_for_a_minute_for_one_address_and_for_all() -> None:
    now = [100.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(MAX_FAILURES):
        throttle.check("a")
        throttle.count("a")
    with pytest.raises(BusyError):
        throttle.check("a")
    throttle.check("b")
    now[0] += 61
    throttle.check("a")
    throttle.count("a")
    throttle.forgive("a")
    throttle.forgive("nobody")
    for number in range(MAX_FAILURES_OF_ALL):
        throttle.count(f"x{number}")
    with pytest.raises(BusyError):
        throttle.check("c")


def test_the_setup_code_is_taken_where_there_is_no_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            code = h.porch.logins.new_code(h.porch.wall_clock())
            status, headers, told = await h.ask("POST", "/login", {"setup_code": code})
            assert status == 200 and h.keys.check(told["new_key"]) is not None
            session = f"Cookie: {headers['set-cookie'].split(';')[0]}"
            assert (await h.ask("GET", "/api/thing", None, session))[2] == {"by": "dashboard"}
            assert (await h.ask("POST", "/login", {"setup_code": code}))[0] == 401
            assert (await h.ask("POST", "/login", {"key": h.owner, "more": 1}))[0] == 400

    asyncio.run(main())


def test_the_pages_are_open_under_a_strict_policy_and_nothing_else_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            for path, kind in (("/", "text/html"), ("/web/views/a.js", "text/javascript")):
                status, headers, body = await h.ask("GET", path)
                assert status == 200 and headers["content-type"].startswith(kind) and body
                assert headers["content-security-policy"] == POLICY.lower()
                assert headers["x-content-type-options"] == "nosniff"
                again = await h.ask("GET", path, None, f"If-None-Match: {headers['etag']}")
                assert (again[0], again[2]) == (304, b"")
            for path in ("/web/../secret", "/web/%2e%2e/secret", "/web//etc/passwd", "/web/", "/web/views"):
                status, _, body = await h.ask("GET", path)
                assert status in (401, 404) and b"nobody" not in json.dumps(body).encode(), path
            for path in ("/web/../api/thing", "/api/thing", "//api/thing", "/api/session"):
                assert (await h.ask("GET", path))[0] in (401, 404), path
            assert (await h.ask("POST", "/web/../api/thing", {}))[0] in (401, 404, 405)
            assert "unsafe" not in POLICY and "http" not in POLICY

    asyncio.run(main())


@pytest.mark.parametrize(
    "cookie", ["", "mycoswarm_session=", "mycoswarm_session=x", 'a="', "=;=", "\xff=\x01", "x" * 4000]
)
def test_a_broken_cookie_is_no_session(tmp_path: Path, cookie: str) -> None:
    async def main() -> None:
        async with house(tmp_path) as h:
            assert (await h.ask("GET", "/api/thing", None, f"Cookie: {cookie}"))[0] in (400, 401)

    asyncio.run(main())


@pytest.mark.parametrize(
    "sent",
    [
        f"{COOKIE}=abc",
        f'theme={{"a":1}}; {COOKIE}=abc',
        f"a b=1;{COOKIE}=abc ; c",
        f'x="open; {COOKIE}=abc',
        f"f(oo=1; expires=; caf\u00e9=; {COOKIE}=abc",
        f"{COOKIE}=planted; {COOKIE}=abc",
        f'{COOKIE}=abc; {COOKIE}="; x-{COOKIE}=1',
    ],
)
def test_our_cookie_is_found_whatever_other_programs_of_this_host_have_set(sent: str) -> None:
    assert token_of([(b"host", b"x"), (b"cookie", sent.encode())]) == "abc"


def test_a_cookie_made_to_be_slow_to_read_costs_nothing() -> None:
    began = time.process_time()
    for value in (b'x="' + b"\\" * 60_000 + b'"', b'x="' + b'\\"' * 30_000 + b'"', b"a=;" * 20_000):
        assert token_of([(b"cookie", value)]) is None
    assert time.process_time() - began < 0.5
