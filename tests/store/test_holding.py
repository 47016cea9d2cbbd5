"""The library on the disk: written whole or not at all, found by words and by meaning, and truly forgotten."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import BusyError, InputError, NotFoundError
from mycoswarm.store.holding import FILE_NAME, MAX_FOLDERS, FileRow, Holdings, NoteRow, PassageRow, Turnover
from mycoswarm.store.index import MAX_WORDS, Index, fused

PRIVATE = frozenset({"private"})


@pytest.fixture
def holdings(tmp_path: Path) -> Iterator[Holdings]:
    held = Holdings(tmp_path)
    yield held
    held.close()


def file(path: str, *texts: str) -> tuple[FileRow, tuple[PassageRow, ...]]:
    row = FileRow(path=path, bytes=9, mtime_ns=7, digest="d", edition=1, passages=len(texts))
    return row, tuple(PassageRow(text=text, first_line=number) for number, text in enumerate(texts, 1))


def fill(
    holdings: Holdings, name: str, *files: tuple[FileRow, tuple[PassageRow, ...]], labels: frozenset[str] = PRIVATE
) -> int:
    folder = holdings.add(name, f"/{name}", labels, 1.0)
    holdings.turn_over(folder.id, Turnover(fresh=files), 2.0)
    return folder.id


def note(number: int, text: str = "a note") -> NoteRow:
    return NoteRow(id=f"n{number}", text=text, labels=PRIVATE, run_id="r", key_name=None, at=float(number))


def words(holdings: Holdings, query: str) -> list[str]:
    index = Index(holdings.store)
    return [hit.text for hit in index.hits(index.by_words(query))]


def unit(*values: float) -> bytes:
    vector = np.array(values, np.float32)
    return (vector / np.linalg.norm(vector)).tobytes()


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith(FILE_NAME))


def test_a_folder_is_found_by_words_with_places_and_labels(holdings: Holdings) -> None:
    fill(holdings, "notes", file("trip.md", "Wir fahren nach Zürich", "and back"), file("b.txt", "nothing"))
    holdings.remember(note(1, "zurich is far"))
    index = Index(holdings.store)
    first, second = index.hits(index.by_words("ZURICH?"))
    by_file, by_note = (first, second) if first.note_id is None else (second, first)
    assert (by_file.folder, by_file.path, by_file.first_line, by_file.labels) == ("notes", "trip.md", 1, PRIVATE)
    assert (by_note.note_id, by_note.labels, by_note.at, by_note.folder) == ("n1", PRIVATE, 1.0, None)
    assert words(holdings, "fahr") == ["Wir fahren nach Zürich"], "a longer word stands for all that begin with it"
    assert words(holdings, "an") == [] and words(holdings, "and") == ["and back"]


@given(st.text(max_size=80))
def test_no_text_is_a_query_that_breaks_the_search(query: str) -> None:
    held = BROKEN[0]
    assert isinstance(Index(held.store).by_words(query), list)


def test_a_query_of_very_many_words_is_bounded(holdings: Holdings) -> None:
    fill(holdings, "a", file("a", "needle", "hay"))
    assert words(holdings, " ".join(f"w{n}" for n in range(5000)) + " needle") == []
    assert words(holdings, "needle " + " ".join(f"w{n}" for n in range(MAX_WORDS))) == ["needle"]


def test_a_passage_that_shares_only_common_words_is_no_hit(holdings: Holdings) -> None:
    many = [f"the house number {n} is there" for n in range(30)]
    fill(holdings, "a", file("a", "the heron is in the cellar", *many))
    assert words(holdings, "where is the heron?") == ["the heron is in the cellar"]


def test_a_reading_replaces_and_lets_go_and_one_of_a_folder_that_is_gone_writes_nothing(holdings: Holdings) -> None:
    folder = fill(holdings, "a", file("one", "alpha"), file("two", "beta"))
    kept = FileRow(path="two", bytes=10, mtime_ns=8)
    holdings.turn_over(folder, Turnover(gone=("one",), kept=(kept,), fresh=(file("three", "gamma"),), fault="f"), 3.0)
    assert [(row.path, row.bytes, row.digest) for row in holdings.files(folder)] == [
        ("three", 9, "d"),
        ("two", 10, "d"),
    ]
    assert not words(holdings, "alpha") and words(holdings, "beta gamma") and holdings.folder("a").fault == "f"
    holdings.turn_over(folder, Turnover(fresh=(file("three", "delta"),)), 4.0)
    assert not words(holdings, "gamma") and words(holdings, "delta") and holdings.folder("a").fault is None
    holdings.remove("a")
    holdings.turn_over(folder, Turnover(fresh=(file("four", "epsilon"),)), 5.0)
    assert not words(holdings, "epsilon beta delta") and holdings.folders() == ()


def test_names_and_folders_are_taken_once_and_bounded(holdings: Holdings) -> None:
    holdings.add("a", "/a", PRIVATE, 1.0)
    for name, path in (("a", "/b"), ("b", "/a")):
        with pytest.raises(InputError) as caught:
            holdings.add(name, path, PRIVATE, 1.0)
        assert caught.value.code == "name_taken"
    for number in range(MAX_FOLDERS - 1):
        holdings.add(f"f{number}", f"/f{number}", frozenset(), 1.0)
    with pytest.raises(BusyError):
        holdings.add("more", "/more", frozenset(), 1.0)
    for act in (holdings.folder, holdings.remove, holdings.forget):
        with pytest.raises(NotFoundError):
            act("none")


def test_the_nearest_vectors_of_the_same_maker_are_found(holdings: Holdings) -> None:
    fill(holdings, "a", file("a", "up", "right", "left", "none"))
    index = Index(holdings.store)
    ids = {text: passage_id for passage_id, text in index.bare(PRIVATE, "m", 9)}
    ids = {text.strip(): passage_id for text, passage_id in ids.items()}
    near, far = unit(1, 0.1), np.array([-3, 0], np.float32).tobytes()
    assert index.put("m", [(ids["up"], unit(0, 1)), (ids["right"], near), (ids["left"], far), (ids["none"], b"")])
    assert index.by_meaning("m", unit(1, 0), 9, -9.0) == [ids["right"], ids["up"], ids["left"]]
    assert index.by_meaning("m", unit(1, 0), 1, -9.0) == [ids["right"]]
    assert index.by_meaning("m", unit(1, 0), 9, 1.0) == [ids["right"]], "which alone stands out"
    assert index.by_meaning("other", unit(1, 0), 9, -9.0) == [] and index.by_meaning("m", unit(1, 0, 0), 9, -9.0) == []
    assert index.bare(PRIVATE, "m", 9) == [] and len(index.bare(PRIVATE, "other", 9)) == 4
    assert index.bare(frozenset(), "m", 9) == []
    assert index.vectors() == {"a": {"m": 3}} and index.makers() == ("m",)
    assert index.put("m", [(9999, unit(1, 0))]) and index.vectors() == {"a": {"m": 3}}, "that passage is gone"


@given(st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4))
def test_orders_are_fused_into_one_that_holds_all_and_none_twice(orders: list[list[int]]) -> None:
    found = fused(*orders)
    assert sorted(found) == sorted({one for order in orders for one in order})
    if len(orders) == 1:
        assert found == orders[0]


def test_what_two_orders_have_near_their_front_comes_first() -> None:
    assert fused([1, 2, 3], [4, 2, 5]) == [2, 1, 4, 3, 5]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_is_forgotten_is_in_no_byte_of_the_file(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    held = Holdings(tmp_path)
    index, secrets, vector = Index(held.store), iter(range(100_000)), unit(1, -1, 1, 1)

    def texts(kind: str) -> list[str]:
        """Passages whose every word says at its end of which kind it is: the index keeps words without what they share
        with the word before them at their beginning."""
        return [
            " ".join(f"{chance.randrange(1 << 30):x}{next(secrets)}{kind}" for _ in range(chance.randrange(1, 150)))
            for _ in range(chance.randrange(1, 30))
        ]

    keep = fill(held, "keep", *(file(f"k{n}", *texts("kept")) for n in range(10)))
    gone = held.add("gone", "/gone", PRIVATE, 1.0).id
    for turn in range(8):  # the kept and the secret lie beside each other on every page
        held.turn_over(gone, Turnover(fresh=tuple(file(f"g{n}", *texts("secret")) for n in range(turn, 8))), 2.0)
        held.turn_over(keep, Turnover(fresh=(file(f"k{turn}", *texts("kept")),)), 2.0)
        held.remember(note(turn, "secretnote " * 20))
        rows = index.bare(PRIVATE, "m", 100)
        index.put("m", [(one, unit(1, -1, 1, 1) if "secret" in text else unit(1)) for one, text in rows])
    assert b"secret" in all_bytes(tmp_path) and vector in all_bytes(tmp_path)
    held.turn_over(gone, Turnover(gone=("g0", "g1", "g2"), fresh=(file("g3", *texts("secret")),)), 3.0)
    held.turn_over(keep, Turnover(fresh=(file("k1", *texts("kept")),)), 3.0)
    for turn in range(8):
        held.forget(f"n{turn}")
    held.remove("gone")
    left = all_bytes(tmp_path)
    assert b"secret" not in left and vector not in left and b"kept" in left
    held.close()
    assert b"secret" not in all_bytes(tmp_path)


def test_what_an_interrupted_deletion_left_in_the_log_goes_with_the_next_start(tmp_path: Path) -> None:
    child = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from mycoswarm.store.holding import Holdings\n"
        "from store.test_holding import file, fill\n"
        f"held = Holdings(Path({str(tmp_path)!r}))\n"
        "fill(held, 'gone', file('a', 'secret'))\n"
        "held.store.forget = lambda: os.kill(os.getpid(), 9)\n"
        "held.remove('gone')\n"
    )
    done = subprocess.run([sys.executable, "-c", child], timeout=30, env={**os.environ, "PYTHONPATH": "tests"})
    assert done.returncode == -signal.SIGKILL
    assert b"secret" in all_bytes(tmp_path)
    held = Holdings(tmp_path)
    assert held.folders() == () and b"secret" not in all_bytes(tmp_path)
    held.close()


@pytest.mark.slow
def test_a_reading_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    held = Holdings(tmp_path)
    folder = fill(held, "a", *(file(f"f{n}", "old", "old") for n in range(200)))
    held.close()
    child = (
        "import sys; from pathlib import Path\n"
        "from mycoswarm.store.holding import Holdings, Turnover\n"
        "from store.test_holding import file\n"
        f"held = Holdings(Path({str(tmp_path)!r}))\n"
        "fresh = tuple(file(f'f{n}', 'new', 'new', 'new') for n in range(200))\n"
        "print('ready', flush=True)\n"
        f"held.turn_over({folder}, Turnover(fresh=fresh), 3.0)\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    seen = set()
    for wait_s in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 5.0):
        environment = {**os.environ, "PYTHONPATH": "tests"}
        with subprocess.Popen([sys.executable, "-c", child], stdin=-1, stdout=-1, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            if wait_s == 5.0:
                assert process.stdout.readline() == b"done\n"
            else:
                signal.sigtimedwait([], wait_s)
            process.kill()
        held = Holdings(tmp_path)
        counts = {row.passages for row in held.files(folder)}
        old, new = (len(held.store.read("SELECT rowid FROM words WHERE words MATCH ?", (w,))) for w in ("old", "new"))
        assert (counts, old, new) in (({2}, 400, 0), ({3}, 0, 600)), (counts, old, new)
        seen.add(new)
        held.close()
    assert 600 in seen


BROKEN: list[Holdings] = []


@pytest.fixture(scope="module", autouse=True)
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    held = Holdings(tmp_path_factory.mktemp("queries"))
    fill(held, "a", file("a", "some words"))
    BROKEN.append(held)
    yield
    held.close()
