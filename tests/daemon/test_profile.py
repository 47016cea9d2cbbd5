"""What a node says of itself, out of a real home."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from household import make_node, take_in
from mycoswarm.base.settings import Settings
from mycoswarm.daemon.home import Home, open_home
from mycoswarm.daemon.profile import Profile
from mycoswarm.daemon.site import Site
from mycoswarm.daemon.standing import read_standing
from mycoswarm.swarm.card import decode_card, encode_card
from mycoswarm.swarm.condition import Condition
from mycoswarm.swarm.registrar import Registrar

HEARD = Condition("twice", "a name is heard twice", "Rename one.")


@contextmanager
def profiles(folder: Path, *, expelled: bool | None = None) -> Iterator[tuple[Home, Profile]]:
    """A node's profile: unclaimed, or a worker that the roster has, or has no more."""
    settings = Settings(data_folder=folder / "pi", name="pi")
    with open_home(settings) as home:
        if expelled is not None:
            other = make_node(folder, "other")
            registrar = Registrar.found(folder / "other", other)
            take_in(registrar, home.identity)
            if expelled:
                registrar.expel(home.identity.node_id)
        standing = read_standing(settings.data_folder, home.identity)
        if standing.held is not None:
            standing.held.accept(registrar.signed_roster)
        site = Site(settings, {"peer": 7, "console": 8})
        yield home, Profile(home, standing, site, heard=lambda: (HEARD,), door_port=lambda: 9)


def test_a_card_crosses_the_wire_whole(tmp_path: Path) -> None:
    with profiles(tmp_path) as (home, profile):
        card = profile.card()
        told = decode_card(encode_card(card), node_id=home.identity.node_id)
        assert (told.name, told.instance_id, told.facts) == ("pi", home.instance_id, card.facts)
        assert [model["name"] for model in told.models] == ["spore"]
        assert card.facts["bad_models"] == [] and card.free_memory_bytes is not None
        assert profile.bare_card().facts == {}


def test_the_owner_is_shown_where_the_node_serves_and_what_is_wrong(tmp_path: Path) -> None:
    with profiles(tmp_path) as (_, profile):
        told = profile.status()
        assert (told["role"], told["swarm_id"], told["peer_port"], told["door_port"]) == ("unclaimed", None, 7, 9)
        assert told["version"] == importlib.metadata.version("mycoswarm") and told["llama_version"]
        assert told["console"].endswith(":8") and profile.console_address == told["console"]
        assert told["conditions"] == [{"code": "twice", "message": HEARD.message, "hint": HEARD.hint}]
        assert profile.health() == {"status": "ok", "role": "unclaimed", "name": "pi"}


def test_a_worker_has_no_console(tmp_path: Path) -> None:
    with profiles(tmp_path, expelled=False) as (_, profile):
        assert profile.console_address == "" and profile.conditions() == (HEARD,)


def test_a_worker_that_was_expelled_says_so(tmp_path: Path) -> None:
    with profiles(tmp_path, expelled=True) as (_, profile):
        assert [one.code for one in profile.conditions()] == ["twice", "expelled"]
