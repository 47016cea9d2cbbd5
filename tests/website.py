"""A small website for tests in namespaces, as a program: ports 80, 8080 and, with a certificate, 443 and 8443.

`python website.py HITS [CERTIFICATE]`: each request is a line in the file HITS. It ends when its stdin closes.
"""

import json
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FRONT = b"""<html><head><title>News of the day</title><script>run_shell()</script></head>
<body><nav>menu</nav><main><h1>Rain</h1><p>It will <a href="/more">rain</a>.</p></main></body></html>"""
MOVED = {
    "/moved": "https://news.example/front",
    "/to-router": "https://router.example/",
    "/to-loopback": "https://127.0.0.1:8443/",
    "/to-http": "http://news.example/front",
}


class Handler(BaseHTTPRequestHandler):
    """Serves the front page, moves, and a search."""

    hits = Path()

    def do_GET(self) -> None:  # http.server's name
        """One request."""
        with self.hits.open("a") as sink:
            sink.write(f"{self.headers.get('host')} {self.path}\n")
        parts = urlsplit(self.path)
        if parts.path in MOVED:
            self.say(302, b"", location=MOVED[parts.path])
        elif parts.path == "/search" and parse_qs(parts.query).get("format") == ["json"]:
            hit = {
                "title": f"About {parse_qs(parts.query)['q'][0]}",
                "url": "https://news.example/",
                "content": "Rain.",
            }
            self.say(200, json.dumps({"results": [hit]}).encode(), **{"content-type": "application/json"})
        else:
            self.say(200, FRONT, **{"content-type": "text/html; charset=utf-8"})

    def say(self, status: int, body: bytes, **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""


def main() -> None:
    """Serve until stdin closes."""
    Handler.hits = Path(sys.argv[1])
    for port in (80, 8080, *((443, 8443) if len(sys.argv) > 2 else ())):
        server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
        if port in (443, 8443):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(sys.argv[2])
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
