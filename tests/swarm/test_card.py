"""Cards: read strictly, and compared before two nodes share a ring."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import ProtocolError, UnsupportedError
from mycoswarm.swarm.card import (
    WIRE_VERSION,
    Card,
    check_versions,
    decode_card,
    encode_card,
    llama_version,
    new_instance_id,
)

CARD = Card(
    node_id="ab" * 16,
    instance_id=new_instance_id(),
    name="box",
    addresses=("192.168.1.6:6927",),
    wire_version=WIRE_VERSION,
    llama_version=llama_version(),
    shard_format=1,
    facts={"cpu": {"cores": 4}},
    models=({"digest": "00" * 32, "name": "spore"},),
    free_memory_bytes=1 << 30,
)


def test_a_card_survives_being_written_and_read() -> None:
    assert decode_card(encode_card(CARD), node_id=CARD.node_id) == CARD
    assert len(CARD.instance_id) == 16


def test_a_card_of_another_node_than_the_channels_is_refused() -> None:
    with pytest.raises(ProtocolError):
        decode_card(encode_card(CARD), node_id="cd" * 16)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.dictionaries(st.sampled_from(Card.__struct_fields__), st.none()).map(msgspec.json.encode),
    )
)
def test_any_bytes_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_card(data, node_id=CARD.node_id)


def test_a_node_of_another_version_is_named_with_what_to_update() -> None:
    check_versions(CARD, msgspec.structs.replace(CARD, name="attic"))
    older = msgspec.structs.replace(CARD, name="attic", llama_version="0.3.9")
    for mine, theirs in ((CARD, older), (older, CARD)):
        with pytest.raises(UnsupportedError, match=r"llama\.cpp") as caught:
            check_versions(mine, theirs)
        assert "attic" in caught.value.hint
    with pytest.raises(UnsupportedError, match="wire version"):
        check_versions(CARD, msgspec.structs.replace(CARD, wire_version=WIRE_VERSION + 1))
