"""Models on real daemons: hostile, too large, ones that cannot be cut; and those that can, fetched in pieces."""

import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemons import PAIR, Answer, answer, logs_of
from models import write_random_model
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import as_error
from mycoswarm.cli.demo import put_model
from mycoswarm.cli.fleet import ARGV, Fleet

pytestmark = pytest.mark.slow

SOLO = "solo; nodes=coordinator"
ENDLESS = {"4": -100}  # the random models' end


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose coordinator allows any context, so that a model may ask for more memory than there is."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "coordinator").mkdir(mode=0o700)
    (folder / "coordinator" / "settings.toml").write_text(f"context_tokens = {1 << 24}\n")
    with Fleet(workers=2, folder=folder) as running:
        running.enrol()
        yield running
        assert "Traceback" not in logs_of(running)


def add(fleet: Fleet, path: Path | str, name: str | None = None) -> dict[str, Any]:
    """`models add`; gives the model, or raises what the daemon said."""
    for line in fleet.coordinator.call.stream("POST", "/api/models", {"path": str(path), "name": name}, timeout_s=60):
        told = json.loads(line)
        if "error" in told:
            raise as_error(line)
        if "model" in told:
            return dict(told["model"])
    raise AssertionError("no model and no error")


def remove(fleet: Fleet, name: str) -> None:
    fleet.coordinator.call.ask("DELETE", f"/api/models/{name}", {})


def assert_alive(fleet: Fleet) -> None:
    assert all(member.process.poll() is None for member in fleet.members)
    assert answer(fleet, None, tokens=4)


def assert_typed(error: SwarmError, *codes: str) -> None:
    assert error.code in codes, f"{error.code}: {error.message}"
    assert error.message and error.hint


def mutants(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Broken, truncated and absurd files out of a good one."""
    for length in (0, 3, 4, 8, 23, 24, 100, 1000, len(data) // 2, len(data) - 1):
        yield f"cut to {length}", data[:length]
    yield "another format", b"PK\3\4" + data[4:]
    yield "version 0", data[:4] + struct.pack("<I", 0) + data[8:]
    yield "version 99", data[:4] + struct.pack("<I", 99) + data[8:]
    yield "big-endian version", data[:4] + struct.pack(">I", 3) + data[8:]
    for number in (0, 1 << 31, (1 << 63) - 1, (1 << 64) - 1):
        yield f"{number} tensors", data[:8] + struct.pack("<Q", number) + data[16:]
        yield f"{number} keys", data[:16] + struct.pack("<Q", number) + data[24:]
        yield f"a name of {number} bytes", data[:24] + struct.pack("<Q", number) + data[32:]
    for key, value in (("block_count", 1 << 31), ("embedding_length", 0), ("attention.head_count", 0)):
        where = data.index(f"llama.{key}".encode()) + len(f"llama.{key}") + 4
        yield f"{key} {value}", data[:where] + struct.pack("<I", value) + data[where + 4 :]
    dice, header = random.Random(5), data.index(b"output_norm.weight")
    for number in range(12):
        changed = bytearray(data)
        for _ in range(3):
            changed[dice.randrange(4, header)] = dice.randrange(256)
        yield f"three odd bytes, {number}", bytes(changed)


def assert_answers_or_says_why(fleet: Fleet, model: str) -> None:
    """What passes for a model may not crash anything but its own stage."""
    for route in (SOLO, PAIR):
        try:
            answer(fleet, route, model=model, tokens=2)
        except SwarmError as error:
            assert_typed(error, "stage_failed", "bad_model_file", "model_error", "cannot_split", "out_of_memory")


def test_broken_files_are_typed_errors_and_the_daemon_lives(stocked: Fleet, tmp_path: Path) -> None:
    data = write_random_model(tmp_path / "good.gguf", "llama", n_layer=2).read_bytes()
    refused = 0
    for number, (what, changed) in enumerate(mutants(data)):
        path = tmp_path / "odd.gguf"
        path.write_bytes(changed)
        try:
            add(stocked, path, f"odd-{number}")
        except SwarmError as error:
            refused += 1
            assert_typed(error, "bad_model_file", "cannot_split", "bad_request")
        else:
            assert what.startswith("three odd bytes") or what == "attention.head_count 0", what
            assert_answers_or_says_why(stocked, f"odd-{number}")
            remove(stocked, f"odd-{number}")
    assert refused >= 30
    assert_alive(stocked)
    assert {model["name"] for model in stocked.coordinator.call.ask("GET", "/api/models")["models"]} == {"spore"}


def test_what_is_no_file_is_a_typed_error(stocked: Fleet, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "absent.gguf", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SwarmError) as caught:
            add(stocked, path, "odd")
        assert_typed(caught.value, "bad_model_file", "no_such_file")
    assert_alive(stocked)


def test_a_model_too_large_for_all_nodes_is_refused_before_anything_is_loaded(stocked: Fleet, tmp_path: Path) -> None:
    # Its file is small; the context that it claims is not.
    path = write_random_model(
        tmp_path / "vast.gguf", "llama", n_layer=64, width=256, heads=4, kv_heads=4, ff=64, context=1 << 24
    )
    digest = put_model(stocked.coordinator.call, path)["digest"]
    for route in (None, SOLO, PAIR):
        with pytest.raises(SwarmError) as caught:
            answer(stocked, route, model="vast")
        assert_typed(caught.value, "out_of_memory")
    assert not any((worker.folder / "pieces" / digest).exists() for worker in stocked.workers)
    remove(stocked, "vast")
    assert_alive(stocked)


def test_an_architecture_that_is_not_listed_cannot_be_split(stocked: Fleet, tmp_path: Path) -> None:
    data = write_random_model(tmp_path / "llama.gguf", "llama", n_layer=2).read_bytes()
    name = b"general.architecture" + struct.pack("<IQ", 8, 5)
    assert data.count(name + b"llama") == 1
    data = data.replace(name + b"llama", name + b"plamo").replace(b"llama.", b"plamo.")
    (tmp_path / "unlisted.gguf").write_bytes(data)
    model = put_model(stocked.coordinator.call, tmp_path / "unlisted.gguf")
    assert not model["splittable"] and model["split_reason"]
    for route in (PAIR, "split"):
        with pytest.raises(SwarmError) as caught:
            answer(stocked, route, model="unlisted")
        assert_typed(caught.value, "cannot_split")
        assert "fits no" not in caught.value.message
    remove(stocked, "unlisted")
    assert_alive(stocked)


@pytest.mark.parametrize(("arch", "experts"), [("llama", None), ("qwen3", None), ("qwen3moe", 4)])
def test_a_model_of_the_coordinator_is_fetched_and_split_equals_whole(
    stocked: Fleet, tmp_path: Path, arch: str, experts: int | None
) -> None:
    path = write_random_model(tmp_path / f"{arch}.gguf", arch, n_layer=5, experts=experts)
    put_model(stocked.coordinator.call, path)
    answers = []
    for route in (PAIR, SOLO):
        one = Answer(stocked, route, model=arch, tokens=12, logit_bias=ENDLESS, logprobs=True, top_logprobs=3)
        one.rest()
        answers.append(one)
    split, whole = answers
    assert {stage["node"] for stage in split.reply.mycoswarm["stages"]} == {"worker-1", "worker-2"}
    assert len(whole.reply.logprobs) == 12 and split.reply.logprobs == whole.reply.logprobs
    for worker in stocked.workers:
        assert list((worker.folder / "pieces").rglob("*.gguf")), "its layers came over the peer channel"
        assert not list((worker.folder / "pieces").rglob("*.partial"))
    remove(stocked, arch)
    with pytest.raises(SwarmError) as caught:
        answer(stocked, PAIR, model=arch)
    assert_typed(caught.value, "model_not_found")


@pytest.mark.parametrize("limit", ["size=64k", "size=8m,nr_inodes=4"])
def test_a_full_disk_while_pieces_come_is_a_typed_error(stocked: Fleet, tmp_path: Path, limit: str) -> None:
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("a small file system of its own needs root on Linux")
    path = write_random_model(tmp_path / "wide.gguf", "llama", n_layer=6, width=128, seed=len(limit))
    put_model(stocked.coordinator.call, path)
    folder = stocked.workers[1].folder / "pieces"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "tmpfs", folder], capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        stack.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
        with pytest.raises(SwarmError) as caught:
            answer(stocked, PAIR, model="wide")
        assert_typed(caught.value, "disk_full")
        assert not list(folder.rglob("*.partial"))
        assert_alive(stocked)
        assert answer(stocked, SOLO, model="wide", tokens=4, logit_bias=ENDLESS)
    assert answer(stocked, PAIR, model="wide", tokens=4, logit_bias=ENDLESS), "there is room again"
    remove(stocked, "wide")


@pytest.mark.parametrize("what", ["console", "peer"])
def test_a_busy_port_is_a_typed_error(tmp_path: Path, what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        other = "peer" if what == "console" else "console"
        ports = (f"--{what}", where, f"--{other}", "127.0.0.1:0", "--interface", "127.0.0.1")
        done = subprocess.run(
            [*ARGV, "--data", str(tmp_path), "run", *ports],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 1 and "in use" in done.stderr and "Traceback" not in done.stderr
    assert str(taken) and where.rpartition(":")[2] in done.stderr
