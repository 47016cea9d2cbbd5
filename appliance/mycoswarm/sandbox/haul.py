"""What a node brought in from the network for a tool: a stranger's bytes, to be read in the jail alone."""

import msgspec


class Haul(msgspec.Struct, frozen=True):
    """`address`: where it came from in the end. `kind`: its Content-Type as the server said it. `is_cut`: there was
    more."""

    address: str
    status: int
    kind: str
    body: bytes
    is_cut: bool = False
