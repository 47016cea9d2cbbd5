"""Random cases for `decide`: few words, so that rules, requests and nodes meet often. The same seed, the same case."""

from dataclasses import dataclass
from random import Random
from typing import Any

from mycoswarm.routing.action import Action, Ask, Deny, External, Run
from mycoswarm.routing.clause import Hours, Labels, Span, When
from mycoswarm.routing.placement import Load
from mycoswarm.routing.rule import Rule, rule_fault
from mycoswarm.routing.snapshot import Asked, EndpointState, Narrowing, NodeState, SwarmState, WarmRing

NAMES = ("pi", "tower", "laptop", "attic", "cellar")
TAGS = ("office", "kids")
ENDPOINTS = ("vllm", "cloud")
LABELS = ("private", "household", "public", "work")
MODELS = ("spore", "llama-8b", "llama-70b")
MODEL_GLOBS = ("*", "llama*", "spore", "*-[78]*b", "?pore", "[!s]*")
KEYS = ("lena", "bot")
CLIENTS = (None, "127.0.0.1", "192.168.1.20", "fe80::7%eth0", "::ffff:192.168.1.30", "10.1.2.3", "nonsense")
NETWORKS = ("127.0.0.0/8", "192.168.1.0/24", "fe80::/10", "::ffff:10.0.0.0/104", "0.0.0.0/0", "192.168.1.20")
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia")
FACTS = ("memory_bytes >= 8GiB", "class = GPU worker", "cores > 3", "gpu = true", "round_trip_s <= 5ms", "class != Pi")
PLACES = ("this-machine", "LAN", "outside")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCKS = ("00:00", "06:30", "12:00", "22:00", "23:59")
AT = 1711839600.0  # the night in which Europe's clocks of 2024 go forward
LAYERS = 3


@dataclass(frozen=True, slots=True)
class World:
    """One case."""

    asked: Asked
    load: Load | None
    rules: tuple[Rule, ...]
    swarm: SwarmState


class Maker:
    """Draws cases from a source of chance: a seeded one, or Hypothesis's, which shrinks."""

    def __init__(self, draw: Random) -> None:
        self.draw = draw

    def world(self) -> World:
        """Draw a case."""
        rules = tuple(
            self.rule(index) for index in range(self.draw.choice((1, 2, 3, 3, 4, 6) if self.some(0.95) else (0,)))
        )
        if self.some(0.9):
            rules = (*rules, Rule(name="last", then=self.action()))
        swarm = self.swarm()
        has_model = self.some(0.9)
        return World(self.asked(has_model), self.load() if has_model else None, rules, swarm)

    def some(self, share: float) -> bool:
        """True in this share of cases."""
        return self.draw.random() < share

    def words(self, among: tuple[str, ...], most: int = 2) -> tuple[str, ...]:
        """One or more of them."""
        return tuple(self.draw.sample(among, self.draw.randint(1, min(most, len(among)))))

    def rule(self, index: int = 0) -> Rule:
        """Draw a sound rule."""
        then = self.action()
        steps = [] if isinstance(then, Deny) else [self.step() for _ in range(self.draw.choice((0, 1, 1, 2)))]
        rule = Rule(name=f"r{index}", when=self.when(), then=then, fallback=tuple(steps), enabled=self.some(0.9))
        assert rule_fault(rule) is None, rule_fault(rule)
        return rule

    def when(self) -> When:
        """Draw conditions: seldom more than two, or nothing would match."""
        draw, parts = self.draw, {}
        for name in draw.sample(
            ("model", "task", "keys", "users", "labels", "labels", "labels", "labels", "characters", "hours", "client"),
            draw.choice((0, 1, 1, 1, 1, 2)),
        ):
            parts[name] = self.condition(name)
        return When(**parts)

    def condition(self, name: str) -> Any:
        """Draw one condition."""
        draw = self.draw
        if name == "model":
            return draw.choice(MODEL_GLOBS)
        if name == "task":
            return draw.choice(("chat", "c*", "*", "tool:*", "[ae]*"))
        if name in ("keys", "users"):
            return self.words(("lena", "b*", "?ena", "*"), 2)
        if name == "labels":
            parts = {part: self.words(LABELS) for part in draw.sample(("any", "all", "none"), draw.choice((1, 1, 2)))}
            return Labels(**parts)
        if name == "characters":
            return Span(*draw.choice(((0, 1000), (1000, None), (500, 8000), (0, None))))
        if name == "hours":
            begin, end = draw.sample(CLOCKS, 2)
            return Hours(begin, end, self.words(DAYS, 3) if self.some(0.5) else (), draw.choice(ZONES))
        return self.words(NETWORKS, 2)

    def action(self) -> Action:
        """Draw a first action."""
        return Deny(message="no") if self.some(0.08) else self.step()

    def step(self) -> Run | External | Ask:
        """Draw a run, an endpoint, or the asking for one."""
        done = External(name=self.draw.choice((*ENDPOINTS, *ENDPOINTS, "gone"))) if self.some(0.2) else self.run()
        return Ask(then=done, within_s=self.draw.choice((30.0, 60.0))) if self.some(0.25) else done

    def run(self) -> Run:
        """Draw a run."""
        draw = self.draw
        return Run(
            nodes=self.words((*NAMES, *NAMES, "id-pi", "away"), 4) if self.some(0.2) else (),
            tags=self.words(TAGS, 1) if self.some(0.1) else (),
            facts=self.words(FACTS) if self.some(0.15) else (),
            places=draw.choice(
                (PLACES, PLACES, ("this-machine", "LAN"), ("this-machine", "LAN"), ("LAN",), ("this-machine",))
            ),
            split=draw.choice(("solo", "split allowed", "split allowed", "split allowed", "split required")),
            prefer=self.words(NAMES, 3) if self.some(0.2) else (),
        )

    def load(self) -> Load:
        """Draw a model's cost: fits any node, some, only rings, or nothing."""
        layer = self.draw.choice((10, 200, 200, 200, 200, 900, 900, 900))
        cuts = self.draw.choice(((1, 2), (1, 2), (2,), (1,), (), (), ()))
        return Load((layer,) * LAYERS, (1,) * LAYERS, 5, 5, 10, cuts)

    def swarm(self) -> SwarmState:
        """Draw a swarm."""
        draw = self.draw
        nodes = tuple(
            self.node(name, index) for index, name in enumerate(draw.sample(NAMES, draw.choice((1, 2, 3, 4, 4))))
        )
        holders = frozenset(node.node_id for node in nodes if self.some(0.9))
        warm = tuple(self.warm(nodes) for _ in range(draw.choice((0, 0, 1, 1, 2))))
        known = tuple(EndpointState(name, draw.choice(("LAN", "outside"))) for name in ENDPOINTS if self.some(0.8))
        return SwarmState(nodes[0].node_id, nodes, {"d": holders}, warm, known)

    def node(self, name: str, index: int = 1) -> NodeState:
        """Draw a node; the first is the coordinator."""
        draw = self.draw
        facts = {
            "memory_bytes": draw.choice((4, 8, 16)) << 30,
            "class": draw.choice(("GPU worker", "Pi")),
            "cores": draw.choice((2, 8)),
            "gpu": self.some(0.5),
            "round_trip_s": draw.choice((0.001, 0.02)),
        }
        return NodeState(
            node_id=f"id-{name}",
            name=name,
            place="this-machine" if index == 0 else draw.choice(("LAN", "LAN", "LAN", "outside")),
            free_bytes=None if self.some(0.05) else draw.choice((300, 600, 600, 600, 700, 5000)),
            bytes_per_s=draw.choice((None, 1e6, 5e6)),
            round_trip_s=0.001,
            tags=frozenset(self.words(TAGS)) if self.some(0.6) else frozenset(),
            trouble="it does not answer" if self.some(0.1) else None,
            bad_models=frozenset({"d"}) if self.some(0.05) else frozenset(),
            facts={fact: value for fact, value in facts.items() if self.some(0.8)},
        )

    def warm(self, nodes: tuple[NodeState, ...]) -> WarmRing:
        """Draw a loaded ring: sound or not, reaching as far as it may or further."""
        draw = self.draw
        taken = draw.sample(nodes, draw.randint(1, min(len(nodes), LAYERS)))
        bounds = [0, *sorted(draw.sample(range(1, LAYERS), len(taken) - 1)), LAYERS]
        shape = tuple((node.node_id, bounds[i], bounds[i + 1]) for i, node in enumerate(taken))
        reach = {node.node_id: draw.choice((node.place, node.place, *PLACES)) for node in taken if self.some(0.8)}
        digest, embeds = draw.choice((("d", False), ("d", False), ("d", True), ("e", False)))
        return WarmRing(digest, shape[: None if self.some(0.9) else 1], reach, embeds)

    def asked(self, has_model: bool = True) -> Asked:
        """Draw a request."""
        draw = self.draw
        return Asked(
            model=draw.choice(MODELS),
            model_digest="d" if has_model else None,
            task=draw.choice(("chat", "chat", "chat", "completion", "embedding", "agent", "tool:web")),
            prompt_characters=draw.choice((0, 499, 500, 999, 1000, 7999, 8000, 10**6)),
            narrowing=self.narrowing() if self.some(0.25) else Narrowing(),
            key_name=draw.choice((None, *KEYS)),
            user=draw.choice((None, *KEYS)),
            labels=frozenset(self.words(LABELS)) if self.some(0.5) else frozenset(),
            added=frozenset(self.words(LABELS)) if self.some(0.7) else frozenset(),
            client=draw.choice(CLIENTS),
            at=AT + draw.choice((0.0, draw.uniform(-7200, 7200), draw.uniform(0, 3e7))),
        )

    def narrowing(self) -> Narrowing:
        """Draw what a request narrows itself."""
        draw = self.draw
        return Narrowing(
            mode=draw.choice(("any", "any", "solo", "split")),
            stages=draw.choice((None, None, None, 1, 2, 3)),
            nodes=self.words((*NAMES, "id-tower", "away"), 3) if self.some(0.3) else (),
            within=draw.choice((None, None, *PLACES)),
            without=frozenset(self.words(("id-pi", "id-tower", "cloud", "vllm"))) if self.some(0.4) else frozenset(),
        )
