"""Errors as HTTP answers, in OpenAI's shape with our hint beside the message."""

import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mycoswarm.base.errors import ApiKeyError, BusyError, InputError, SwarmError

log = logging.getLogger(__name__)

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_body(error: SwarmError) -> dict[str, Any]:
    """Build the JSON body of an error: `{"error": {message, type, param, code, hint}}`."""
    kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    param = error.param if isinstance(error, InputError) else None
    return {"error": {"message": error.message, "type": kind, "param": param, "code": error.code, "hint": error.hint}}


def error_response(error: SwarmError) -> JSONResponse:
    """Build the whole HTTP answer of an error; 429 carries Retry-After, 401 what to send."""
    headers = {}
    if isinstance(error, BusyError):
        headers["retry-after"] = str(error.retry_after_s)
    elif isinstance(error, ApiKeyError):
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


async def on_swarm_error(request: Request, error: Exception) -> Response:
    """Answer one of ours, as starlette's exception handler."""
    assert isinstance(error, SwarmError)  # registered for this class only
    return error_response(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer starlette's own errors (no such route, wrong method) in the same shape."""
    status = getattr(error, "status_code", 500)
    if status == 404:
        text = f"there is nothing at {request.url.path}"
    elif status == 405:
        text = f"{request.url.path} does not take {request.method}"
    else:
        text = str(getattr(error, "detail", "the request failed"))
    wrong = SwarmError(text, hint="The README lists the addresses that there are.", code=f"http_{status}")
    body = error_body(wrong)
    body["error"]["type"] = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return JSONResponse(body, status_code=status)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer what we did not foresee, and log it whole: the client learns nothing of our insides."""
    log.error("a request to %s failed: a bug of ours", request.url.path, exc_info=error)
    return error_response(bug())


def bug() -> SwarmError:
    """What a client hears of a mistake of ours."""
    return SwarmError("this node made a mistake", hint="Its log says more; please report it.", code="internal_error")
