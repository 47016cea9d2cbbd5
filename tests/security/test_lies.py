"""What a node of the swarm says of itself or of an answer may be a lie: it costs that node, never the others."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from household import make_node
from mycoswarm.base.errors import InputError, ProtocolError
from mycoswarm.base.settings import Settings
from mycoswarm.chat.load import load_of
from mycoswarm.daemon.outlook import Outlook, Sources
from mycoswarm.daemon.standing import read_standing
from mycoswarm.routing.decision import decide
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.routing.snapshot import Asked
from mycoswarm.stage.failure import retold, revive
from mycoswarm.swarm.card import WIRE_VERSION, Card, decode_card
from mycoswarm.swarm.contact import Contact
from mycoswarm.swarm.dial import parse_address
from mycoswarm.wire.frame import Trouble
from mycoswarm.wire.line import decode_report
from mycoswarm.wire.plan import Conditions
from mycoswarm.wire.report import Failed
from rings import FACTS

NODE = "ab" * 16
HUGE = "9" * 400  # an integer that no float holds


def card_bytes(**said: Any) -> bytes:
    """A card with some of its fields forged; texts that begin with "=" stand there as bare JSON."""
    card = {
        "node_id": NODE,
        "instance_id": "one",
        "name": "attic",
        "addresses": ["192.168.1.6:6927"],
        "wire_version": WIRE_VERSION,
        "llama_version": "0.3.36",
        "shard_format": 1,
        **said,
    }
    return msgspec.json.encode({k: msgspec.Raw(v[1:].encode()) if str(v)[0] == "=" else v for k, v in card.items()})


@pytest.mark.parametrize(
    "said",
    [
        {"free_memory_bytes": f"={HUGE}"},
        {"free_memory_bytes": -1},
        {"addresses": ["attic..local:6927"]},
        {"addresses": ["x" * 64 + ":6927"]},
        {"addresses": ["127.0.0.1"]},
        {"name": "attic\x1b[2J"},
        {"name": "attic\nroot: all is well"},
        {"llama_version": "1" * 5000},
        {"models": [{}] * 1025},
        {"node_id": "cd" * 16},
    ],
)
def test_a_card_that_no_honest_node_shows_is_a_protocol_error(said: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_card(card_bytes(**said), node_id=NODE)


@pytest.mark.parametrize("address", ["attic..local:6927", "x" * 64 + ".local:6927"])
def test_a_name_that_the_resolver_would_choke_on_is_no_address(address: str) -> None:
    with pytest.raises(InputError):
        parse_address(address)


class Shown:
    """Contacts of one node, which shows this card."""

    def __init__(self, node_id: str, said: dict[str, Any]) -> None:
        self._node_id, self._said = node_id, said

    def contact(self, node_id: str) -> Contact:
        """What its card says, as it came over the wire."""
        card: Card = decode_card(card_bytes(node_id=self._node_id, **self._said), node_id=self._node_id)
        return Contact(node_id, card, 0.001, None, "this-machine")


def lying_model(**said: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(FACTS), **said}


@pytest.mark.parametrize(
    ("facts", "models"),
    [
        ({"bytes_per_s": 10**400, "usable_threads": 10**400}, [lying_model()]),
        ({"bytes_per_s": -1.0, "usable_threads": -(10**400), "bad_models": {"a": 1}}, [lying_model()]),
        ({"bytes_per_s": 5e-324, "usable_threads": "many", "uses_gpu": "yes"}, [lying_model()]),
        ({}, [lying_model(layer_bytes=[10**400] * 6), lying_model()]),
        ({}, [lying_model(layer_bytes=[1] * 5), lying_model(kv_bytes_per_token=[]), lying_model()]),
        (
            {},
            [
                lying_model(cuts=[99]),
                lying_model(n_embd=-(10**400)),
                lying_model(n_ctx_train=-7),
                {"a": 1},
                lying_model(),
            ],
        ),
    ],
)
def test_deciding_survives_whatever_a_card_says(tmp_path: Path, facts: dict[str, Any], models: list[Any]) -> None:
    identity = make_node(tmp_path, "attic")
    outlook = Outlook(
        Sources(
            standing=read_standing(tmp_path / "attic", identity),
            contact=Shown(identity.node_id, {"facts": facts, "models": models, "free_memory_bytes": 1 << 60}).contact,
            settings=Settings(data_folder=tmp_path),
            rings=lambda: (),
            returning=dict,
            speeds=dict,
            conditions=lambda: (),
            endpoints=tuple,
        )
    )
    found = outlook.find("spore")
    assert found == FACTS
    threads = outlook.threads((identity.node_id,))
    load = load_of(found, Conditions(n_ctx=found.n_ctx_train, n_threads=threads))
    asked = Asked(model="spore", model_digest=found.digest, task="chat", prompt_characters=1)
    outcome = decide(asked, load, RuleSet.of((DEFAULT_RULE,)), outlook.swarm(found.digest))
    assert outcome.explanation.rule == DEFAULT_RULE.name


@pytest.mark.parametrize(
    "report",
    [
        f'{{"report":"finished","request_id":"r","reason":"stop","prompt_tokens":{1 << 63},"completion_tokens":1}}',
        '{"report":"finished","request_id":"r","reason":"stop","prompt_tokens":1,"completion_tokens":-1}',
        '{"report":"finished","request_id":"r","reason":"' + "x" * 99 + '","prompt_tokens":1,"completion_tokens":1}',
        f'{{"report":"piece","request_id":"r","text":"","token_ids":[{HUGE}]}}',
        f'{{"report":"progress","what":"x","done_bytes":{HUGE},"total_bytes":1}}',
        '{"report":"failed","request_id":"r","code":"' + "x" * 99 + '","message":"","hint":""}',
    ],
)
def test_a_report_with_numbers_that_the_ledger_cannot_keep_is_a_protocol_error(report: str) -> None:
    with pytest.raises(ProtocolError):
        decode_report(report.encode())


def test_an_error_from_another_machine_is_short_and_moves_no_cursor() -> None:
    words = "\x1b[2J\nroot: all is well " * 1000
    failed = Failed(request_id=None, code="made_up", message=words, hint=words, last_words=(words,) * 1000)
    told = revive(failed), retold(Trouble("made_up", words, "ab" * 16))
    texts = [text for error in told for text in (error.message, error.hint, *getattr(error, "last_words", ()))]
    assert len(texts) < 50
    assert all(len(text) <= 1000 and text.isprintable() for text in texts)
