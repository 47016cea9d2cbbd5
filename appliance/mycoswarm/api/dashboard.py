"""The dashboard's files, read once and served from memory. They hold no secret: who loads them sees a sign-in form."""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

import mycoswarm
from mycoswarm.base.errors import NotFoundError

FOLDER = "/web/"
MAX_FILES = 200
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
# Nothing of another site, nothing inline, nobody's frame; pictures that the page itself drew may be "data:".
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # the browser asks each time whether it changed
}


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    kind: str
    tag: str


def web_folder() -> Path:
    """Where the dashboard's files are: inside the package where it is installed, beside it in a checkout."""
    package = Path(mycoswarm.__file__).parent
    inside = package / "web"
    return inside if inside.is_dir() else package.parents[1] / "web"


def dashboard_routes(folder: Path) -> list[Route]:
    """Build `/` and `/web/NAME`. A folder that is not there is said at `/`."""
    files = _read(folder)

    async def page(request: Request) -> Response:
        if "index.html" not in files:
            return PlainTextResponse("This installation has no dashboard; the API is at /v1.\n", 404)
        return _answer(request, files["index.html"])

    async def part(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        if found is None:
            raise NotFoundError("the dashboard has no such file")
        return _answer(request, found)

    return [Route("/", page), Route(FOLDER + "{name:path}", part)]


def _read(folder: Path) -> dict[str, _File]:
    found = {}
    for path in sorted(folder.rglob("*"))[:MAX_FILES] if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.endswith((".test.js", ".md")):
            data = path.read_bytes()
            kind = KINDS.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
            found[name] = _File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    return found


def _answer(request: Request, file: _File) -> Response:
    headers = {**HEADERS, "etag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.data, media_type=None, headers={**headers, "content-type": file.kind})
