"""The official `openai` client embeds over real daemons: spore, and an encoder of random weights."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest
from click.testing import CliRunner

from daemons import stages_of, until
from encoders import WIDTH, bert, tokens_of, write_encoder
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet, Member

pytestmark = pytest.mark.slow

TEXTS = ["What is mycoSwarm?", "A ring of small machines.", "\u2603", "What is mycoSwarm?"]
MANY = ["A ring of small machines that belong to one person. " * 8] * 200  # seconds of work
ENCODER = ["the", "the cat", "the dog the cat"]


@pytest.fixture(scope="module")
def pair() -> Iterator[Fleet]:
    """A coordinator and two workers, whom these tests break."""
    with Fleet(workers=2) as running:
        running.enrol()
        yield running


@pytest.fixture(scope="module")
def client(pair: Fleet) -> Iterator[openai.OpenAI]:
    url = f"http://{pair.console()}/v1"
    with openai.OpenAI(base_url=url, api_key=pair.key("openai"), max_retries=0, timeout=120) as made:
        yield made


def embedded(client: openai.OpenAI, texts: list[str], model: str = "spore", route: str | None = None) -> np.ndarray:
    headers = {"x-mycoswarm-route": route} if route else {}
    told = client.embeddings.create(model=model, input=texts, extra_headers=headers)
    assert [one.index for one in told.data] == list(range(len(texts)))
    return np.array([one.embedding for one in told.data], np.float32)


def test_spore_embeds_many_texts_as_it_embeds_each(client: openai.OpenAI) -> None:
    together = embedded(client, TEXTS)
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    for text, vector in zip(TEXTS, together, strict=True):
        assert (embedded(client, [text])[0] == vector).all()  # bit for bit
    assert (together[0] == together[3]).all() and float(together[0] @ together[1]) < 0.9999


def test_every_node_gives_the_same_vectors(client: openai.OpenAI) -> None:
    here = embedded(client, TEXTS, route="nodes=coordinator")
    for name in ("worker-1", "worker-2"):
        assert (embedded(client, TEXTS, route=f"nodes={name}") == here).all()


def test_two_clients_at_once_and_a_chat_beside_them(client: openai.OpenAI) -> None:
    wanted = embedded(client, TEXTS)
    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(embedded, client, TEXTS) for _ in range(2)]
        chat = pool.submit(
            client.chat.completions.create,
            model="spore",
            messages=[{"role": "user", "content": "Hello!"}],
            max_tokens=8,
        )
        assert all((one.result() == wanted).all() for one in both)
        assert chat.result().choices[0].message.content


def test_the_receipt_the_ledger_and_the_model_list_say_what_was_done(pair: Fleet, client: openai.OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model="spore", input=TEXTS[:2])
    told = raw.parse()
    assert told.usage.prompt_tokens == told.usage.total_tokens > 8
    extra = told.model_extra["mycoswarm"]
    assert extra["pooling"] == "mean" and raw.headers["x-mycoswarm-nodes"] == extra["nodes"][0]
    rows = str(pair.coordinator.call.ask("GET", f"/api/ledger/{extra['receipt']}"))
    assert "embedding" in rows and "mycoSwarm?" not in rows
    (model,) = [one for one in client.models.list() if one.id == "spore"]
    assert model.model_extra["mycoswarm"]["pooling"] is None  # its file does not say
    assert model.model_extra["mycoswarm"]["embedding_width"] == len(told.data[0].embedding)


def test_an_encoder_gives_what_numpy_computes_and_does_not_chat(
    pair: Fleet, client: openai.OpenAI, tmp_path: Path
) -> None:
    weights = write_encoder(tmp_path / "bert.gguf", pooling=2)
    _add(pair.coordinator, tmp_path / "bert.gguf", "bert")
    found = embedded(client, ENCODER, "bert")
    assert found.shape == (3, WIDTH)
    for text, vector in zip(ENCODER, found, strict=True):
        assert np.abs(vector - bert(weights, tokens_of(text), 2)).max() < 2e-3
    with pytest.raises(openai.BadRequestError, match="64 tokens are the most") as long:
        embedded(client, ["the " * 100], "bert")
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="32 dimensions, and 8 are asked for"):
        client.embeddings.create(model="bert", input="the", dimensions=8)
    assert len(client.embeddings.create(model="bert", input="the", dimensions=WIDTH).data[0].embedding) == WIDTH
    with pytest.raises(openai.APIStatusError, match="only makes embeddings"):
        client.chat.completions.create(model="bert", messages=[{"role": "user", "content": "the"}])
    write_encoder(tmp_path / "rank.gguf", pooling=4, seed=2)
    _add(pair.coordinator, tmp_path / "rank.gguf", "rank")
    with pytest.raises(openai.APIStatusError, match="pooling rank"):
        embedded(client, ENCODER, "rank")


def test_a_split_and_what_a_rule_forbids_are_refused(pair: Fleet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="one node with the whole model makes embeddings"):
        embedded(client, TEXTS, route="split")
    _rules(pair.coordinator, "add", "no vectors", "--task", "embedding", "--deny", "chats only", "--position", "1")
    try:
        with pytest.raises(openai.PermissionDeniedError):
            embedded(client, TEXTS)
    finally:
        _rules(pair.coordinator, "undo")
    assert len(embedded(client, TEXTS)) == 4


def test_a_client_that_hangs_up_frees_the_ring(pair: Fleet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.7).embeddings.create(model="spore", input=MANY)
    began = time.monotonic()
    assert len(embedded(client, TEXTS)) == 4
    assert time.monotonic() - began < 5


def test_a_killed_stage_costs_nothing_but_time(pair: Fleet, client: openai.OpenAI) -> None:
    headers = {"x-mycoswarm-route": "nodes=worker-1,worker-2"}
    first = client.embeddings.create(model="spore", input=MANY[:1], extra_headers=headers)
    wanted = np.array(first.data[0].embedding, np.float32)
    (name,) = first.model_extra["mycoswarm"]["nodes"]  # the next request borrows its ring
    busy = next(member for member in pair.workers if member.name == name)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(client.embeddings.create, model="spore", input=MANY, extra_headers=headers)
        threading.Event().wait(0.7)
        assert not work.done()
        for stage in stages_of(busy):
            stage.kill()
        told = work.result()
    assert len(told.data) == len(MANY) and all(
        (np.array(one.embedding, np.float32) == wanted).all() for one in told.data
    )
    assert told.model_extra["mycoswarm"]["earlier_stages"], "it was over before the stage was killed"


def _add(member: Member, path: Path, name: str) -> None:
    list(member.call.stream("POST", "/api/models", {"path": str(path), "name": name}, timeout_s=60))
    until(lambda: name in str(member.call.ask("GET", "/v1/models")), 10, f"{name} is not listed")


def _rules(member: Member, *words: str) -> None:
    done = CliRunner().invoke(main, ["--data", str(member.folder), "rules", *words])
    assert done.exit_code == 0, done.output
