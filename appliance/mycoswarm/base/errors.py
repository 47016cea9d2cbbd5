"""Every error that mycoSwarm lets out, in words for the owner of the machine.

SwarmError
├── InputError              400  the caller's request is wrong
│   ├── UnsupportedError    400  asked for something this software does not do; names it
│   ├── NotFoundError       404  no such model, node, key, token
│   └── SettingError        400  a setting in the file, environment or flags is wrong
├── TrustError              403  the other side may not do this
│   ├── ApiKeyError         401  missing or unknown API key
│   ├── EnrolmentError      403  a join token, code or identity did not hold
│   ├── TicketError         403  work without a valid ticket
│   ├── RefusedError        403  the rules allow no place for this request
│   └── EgressError         403  this process may not connect there
├── ModelError              422  a model file is broken, unsuitable or absent
│   ├── ModelFileError      422  not a sound GGUF file
│   ├── SplitError          422  this architecture or cut cannot be split
│   └── CapacityError       507  no allowed node or ring has the memory
├── RingError               502  a ring could not be opened or broke
│   ├── StageError          502  one stage's process failed; carries its last words
│   ├── CaptureError        500  hidden states were not what was asked for
│   └── ProtocolError       502  the other side broke the protocol, or we did: `side` says who
├── EndpointError           502  an external endpoint, or a server that a model is pulled from, failed or lied
├── UnreachableError        503  a node or port does not answer in time
├── BusyError               429  queue full; `retry_after_s` is honest
├── StorageError            507  disk full, unreadable or not writable
└── SetupError              500  this machine lacks something: a library, a free port, a permission
"""

from typing import ClassVar


class SwarmError(Exception):
    """What happened (`str(error)`), what to do (`hint`), a stable `code`, an HTTP `status`.

    `code` may be made more precise per instance; it never changes meaning between versions.
    """

    code: str = "swarm_error"
    status: ClassVar[int] = 500
    default_hint: ClassVar[str] = "Look at the node's log for more."

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint if hint is not None else self.default_hint
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])


class InputError(SwarmError):
    """The caller's request is wrong; nothing was done. `param` names the field, where it is one."""

    code = "bad_request"
    status = 400
    param: str | None = None
    default_hint = "Correct the request and send it again."


class UnsupportedError(InputError):
    """The request asks for something this software does not do; the message names it."""

    code = "unsupported"
    default_hint = "Leave that part out."


class NotFoundError(InputError):
    """No such model, node, key or token."""

    code = "not_found"
    status = 404
    default_hint = "List what there is and use one of those names."


class SettingError(InputError):
    """A setting in the file, the environment or a flag is wrong."""

    code = "bad_setting"
    default_hint = "Correct the setting and start again."


class TrustError(SwarmError):
    """The other side may not do this."""

    code = "forbidden"
    status = 403
    default_hint = "Only adopted nodes and holders of a key may do this."


class ApiKeyError(TrustError):
    """No API key, or one that is not known."""

    code = "invalid_api_key"
    status = 401
    default_hint = "Make a key with `mycoswarm-node keys create NAME` and send it as `Authorization: Bearer KEY`."


class EnrolmentError(TrustError):
    """A join token, a code or an identity did not hold."""

    code = "enrolment_failed"
    default_hint = "Make a fresh token with `mycoswarm-node token` on the coordinator and try again."


class TicketError(TrustError):
    """Work was asked for without a valid ticket for it."""

    code = "bad_ticket"
    default_hint = "Send prompts through the swarm's coordinator; nodes run nothing without its signed decision."


class RefusedError(TrustError):
    """The rules allow no place for this request."""

    code = "refused_by_rules"
    default_hint = "See why with `mycoswarm-node ask --explain`, and change the rule if you want it otherwise."


class EgressError(TrustError, PermissionError):
    """A process of ours tried to connect, send or look up a name where it may not; nothing went out.

    Also an OSError, as a firewall's refusal would be: so libraries close the socket, try the next address and go on.
    Code of ours that makes another error of an OSError names this one first.
    """

    code = "egress_refused"
    default_hint = "Name the machine in `peers` or its network in `lan`; endpoints are registered, and named by a rule."


class ModelError(SwarmError):
    """A model is broken, unsuitable or absent."""

    code = "model_error"
    status = 422
    default_hint = "Try another model file."


class ModelFileError(ModelError):
    """The file is not a sound GGUF model."""

    code = "bad_model_file"
    default_hint = "Download the file again and compare its checksum with the publisher's."


class SplitError(ModelError):
    """This architecture or this cut cannot be split over nodes."""

    code = "cannot_split"
    default_hint = "Run it whole on one node, or take a model of an architecture on the list in the README."


class CapacityError(ModelError):
    """No allowed node, and no ring of them, has the memory for this model."""

    code = "out_of_memory"
    status = 507
    default_hint = "Take a smaller model or quantisation, shorten the context, or add a node."


class RingError(SwarmError):
    """A ring could not be opened, or broke while it worked. `lost_node_id` names where, if that is known."""

    code = "ring_failed"
    status = 502
    default_hint = "Send the request again; if it fails again, look at `mycoswarm-node nodes`."
    lost_node_id: str | None = None


class StageError(RingError):
    """One stage's process failed. `last_words` are the last lines it logged, llama.cpp's own among them."""

    code = "stage_failed"

    def __init__(
        self, message: str, *, last_words: tuple[str, ...] = (), hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.last_words = last_words


class CaptureError(RingError):
    """The hidden states read out of llama.cpp were not exactly the rows asked for; nothing was sent on."""

    code = "capture_failed"
    status = 500


class ProtocolError(RingError):
    """A frame or message broke the protocol. `side` says whose fault it was: "local" or "remote"."""

    code = "protocol_error"
    default_hint = "Update all nodes to the same version."

    def __init__(self, message: str, *, side: str = "remote", hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.side = side


class EndpointError(SwarmError):
    """An external endpoint failed, answered nonsense, or is not where it was registered to be; or a server did that the
    owner pulls a model from."""

    code = "endpoint_failed"
    status = 502
    default_hint = "Look at that server; `mycoswarm-node endpoints list` shows how it is registered."


class UnreachableError(SwarmError):
    """A node or port did not answer in time."""

    code = "unreachable"
    status = 503
    default_hint = "Check that the machine is on and in the same network."


class BusyError(SwarmError):
    """The queue is full. `retry_after_s`: seconds after which a new try is likely to be taken."""

    code = "busy"
    status = 429
    default_hint = "Wait and send the request again."

    def __init__(self, message: str, *, retry_after_s: int, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class StorageError(SwarmError):
    """The disk is full, or a file cannot be read or written."""

    code = "storage_failed"
    status = 507
    default_hint = "Free some space or correct the folder's permissions, then try again."


class SetupError(SwarmError):
    """This machine lacks something: a library, a free port, a permission."""

    code = "setup_failed"
    default_hint = "Mend what the message names and start again."
