"""What an endpoint says against a request, as our own errors. Its words are a stranger's: bounded, cleaned, keyless."""

import re
import unicodedata
from typing import Any

import msgspec

from mycoswarm.base.errors import BusyError, EndpointError, SwarmError
from mycoswarm.external.target import Target

MAX_WORDS = 300  # characters of an endpoint's own message that an error repeats
MAX_READ = 64 << 10  # characters that are looked at
USUAL_RETRY_S = 10  # where a busy endpoint names no time
MAX_RETRY_S = 3600


def complaint(target: Target, status: int, body: bytes, retry_after: str | None = None) -> SwarmError:
    """Word an HTTP status that is no answer, with what the endpoint says about it. `body` may be cut off."""
    words = _said(body)
    because = f": {cleaned(words, target)}" if words else ""
    name = target.name
    if 300 <= status < 400:
        return EndpointError(
            f"endpoint {name} sends us elsewhere (status {status}), where no prompt of yours is carried",
            hint="Register the endpoint's final URL.",
            code="endpoint_redirects",
        )
    if status in (401, 403):
        return EndpointError(
            f"endpoint {name} refused the key or what it may do (status {status}){because}",
            hint="Register the endpoint with a valid API key.",
            code="endpoint_refused_key",
        )
    if status == 404 and ("model" in words.lower() or (target.model and target.model in words)):
        return EndpointError(
            f"endpoint {name} has no model {target.model!r}{because}",
            hint="Let the rule name a model that the endpoint serves.",
            code="endpoint_model_not_found",
        )
    if status == 404:
        return EndpointError(
            f"endpoint {name} has nothing at that address (status 404){because}",
            hint='Check the path of the endpoint\'s URL; most end with "/v1".',
        )
    if status == 429:
        return BusyError(
            f"endpoint {name} is busy or its limit is reached{because}",
            retry_after_s=_seconds(retry_after),
            code="endpoint_busy",
        )
    return EndpointError(f"endpoint {name} failed (status {status}){because}")


def in_answer(target: Target, error: Any) -> EndpointError:
    """Word an error object that came in place of an answer, or in the middle of one."""
    return EndpointError(f"endpoint {target.name} failed: {cleaned(_words(error), target) or 'it does not say why'}")


def garbled(target: Target, what: str) -> EndpointError:
    """It does not speak the protocol that is wanted of it. `what` must be our own words."""
    wanted, of = (
        ("no completion", "an OpenAI-compatible server") if target.kind == "endpoint" else ("no file", "a file")
    )
    return EndpointError(
        f"{target.words} answers what is {wanted}: {what}",
        hint=f"Check that the {target.kind}'s URL is that of {of}.",
        code=f"{target.stem}_garbled",
    )


def broken_off(target: Target, why: str) -> EndpointError:
    """The answer ended before its end. `why` must be our own words."""
    return EndpointError(f"{target.words} broke off: {why}", code=f"{target.stem}_broke_off")


def cleaned(text: str, target: Target) -> str:
    """A stranger's text on one short line: no control or invisible characters, and not the key that we sent."""
    plain = "".join(c for c in text[:MAX_READ] if c.isspace() or _is_plain(c))
    if target.secret:
        # With spaces between its characters it would still be read as the key.
        plain = re.sub(r"\s*".join(map(re.escape, target.secret)), "(key)", plain)
    plain = " ".join(plain.split())
    return plain if len(plain) <= MAX_WORDS else plain[:MAX_WORDS] + "…"


def _is_plain(character: str) -> bool:
    return not unicodedata.category(character).startswith("C")


def _said(body: bytes) -> str:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
    return _words(given.get("error", given) if isinstance(given, dict) else given)


def _words(error: Any) -> str:
    """The text of an error in the shapes that servers use: {"message"}, {"detail"}, or a text itself."""
    if isinstance(error, dict):
        error = next((error[name] for name in ("message", "detail", "error", "code") if error.get(name)), "")
    return error if isinstance(error, str) else ""


def _seconds(retry_after: str | None) -> int:
    """Seconds of a Retry-After header. A date is not read: the endpoint's clock is not ours."""
    text = (retry_after or "").strip()
    if not (text.isascii() and text.isdigit()):
        return USUAL_RETRY_S
    return max(1, min(int(text[:9]), MAX_RETRY_S))
