"""How an error crosses a process or a machine: a `SwarmError` becomes a `Failed` report, and is raised again there."""

import msgspec

from mycoswarm.base.errors import (
    BusyError,
    CapacityError,
    InputError,
    ModelError,
    NotFoundError,
    RingError,
    StageError,
    SwarmError,
    TrustError,
    UnreachableError,
)
from mycoswarm.wire.frame import Trouble
from mycoswarm.wire.report import Failed

_DEFAULT_RETRY_S = 5  # where a busy node did not say
_MAX_TEXT = 1000  # characters that another machine's error gets in ours
_MAX_WORDS = 16  # lines


def describe(error: SwarmError, *, request_id: str | None = None, node_id: str | None = None) -> Failed:
    """Write an error as a report. `node_id` is where it happened, for errors that do not say."""
    lost = error.lost_node_id if isinstance(error, RingError) else None
    return Failed(
        request_id=request_id,
        code=error.code,
        message=error.message,
        hint=error.hint,
        status=error.status,
        retry_after_s=error.retry_after_s if isinstance(error, BusyError) else None,
        last_words=error.last_words if isinstance(error, StageError) else (),
        lost_node_id=lost or (node_id if request_id is None else None),
    )


def revive(failed: Failed) -> SwarmError:
    """Make the error that a report describes: of the class its code names, else of the nearest one for its status.

    Its texts come from another machine and end in logs and terminals: cut, and without control characters.
    """
    failed = msgspec.structs.replace(
        failed,
        message=_plain(failed.message),
        hint=_plain(failed.hint),
        last_words=tuple(_plain(line) for line in failed.last_words[:_MAX_WORDS]),
    )
    error = _of_code(failed) or _of_status(failed)
    error.code = failed.code
    if isinstance(error, RingError):
        error.lost_node_id = failed.lost_node_id
    return error


def retold(trouble: Trouble) -> RingError:
    """Make the error that another stage of the ring reports."""
    message = _plain(trouble.message)
    found = _of_code(Failed(request_id=None, code=trouble.code, message=message, hint=RingError.default_hint))
    error = found if isinstance(found, RingError) else RingError(message, code=trouble.code)
    error.lost_node_id = trouble.node_id
    return error


def lost(node_id: str, message: str, code: str = "ring_failed") -> RingError:
    """Make the error for a ring that broke at a node."""
    error = RingError(message, code=code)
    error.lost_node_id = node_id
    return error


def _of_code(failed: Failed) -> SwarmError | None:
    kinds: list[type[SwarmError]] = [SwarmError]
    for kind in kinds:  # grows while it is read
        kinds += kind.__subclasses__()
    found = next((kind for kind in kinds if kind.code == failed.code), None)
    if found is BusyError:
        return BusyError(failed.message, retry_after_s=failed.retry_after_s or _DEFAULT_RETRY_S, hint=failed.hint)
    if found is StageError:
        return StageError(failed.message, last_words=failed.last_words, hint=failed.hint)
    return None if found is None else found(failed.message, hint=failed.hint)


def _of_status(failed: Failed) -> SwarmError:
    if failed.status == BusyError.status:
        return BusyError(failed.message, retry_after_s=failed.retry_after_s or _DEFAULT_RETRY_S, hint=failed.hint)
    if failed.last_words:
        return StageError(failed.message, last_words=failed.last_words, hint=failed.hint)
    kinds = (NotFoundError, InputError, TrustError, ModelError, CapacityError, UnreachableError, RingError)
    found = next((kind for kind in kinds if kind.status == failed.status), RingError)
    return found(failed.message, hint=failed.hint)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_TEXT])
