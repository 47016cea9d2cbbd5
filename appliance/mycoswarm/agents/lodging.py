"""Where the workspaces of runs are, and how many calls each node has now. A run's files are on one node."""

import contextlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_HOMES = 4096  # workspaces whose node is remembered; those used longest ago are forgotten, and swept there


@dataclass(slots=True)
class _Home:
    """Where a workspace is. `has_files`: some call was sent there. `waiting`: calls that count on it now."""

    node_id: str
    has_files: bool = False
    waiting: int = 0


class Lodgings:
    """The homes of all workspaces."""

    def __init__(self) -> None:
        self._homes: OrderedDict[str, _Home] = OrderedDict()  # by workspace
        self._busy: Counter[str] = Counter()

    @property
    def busy(self) -> Mapping[str, int]:
        """Calls under way, by node."""
        return self._busy

    def node_of(self, workspace_id: str) -> str | None:
        """The node that has a workspace, or that calls count on."""
        home = self._homes.get(workspace_id)
        return None if home is None else home.node_id

    @contextlib.contextmanager
    def counted(self, node_id: str, workspace_id: str | None) -> Iterator[None]:
        """Count a call, and keep its workspace on its node while a call counts on it, and after one was sent there.
        `workspace_id` None: it needs none."""
        self._busy[node_id] += 1
        try:
            if workspace_id is None:
                yield
            else:
                with self._kept(node_id, workspace_id):
                    yield
        finally:
            self._busy[node_id] -= 1
            self._busy += Counter()  # forgets the nodes that have none

    def sent(self, node_id: str, workspace_id: str) -> None:
        """A call was sent there, so there may be files now."""
        home = self._homes.get(workspace_id)
        if home is not None and home.node_id == node_id:
            home.has_files = True

    def leave(self, workspace_id: str) -> str | None:
        """Forget a workspace; gives the node that has it, None where nothing was sent to one."""
        home = self._homes.pop(workspace_id, None)
        return home.node_id if home is not None and home.has_files else None

    @contextlib.contextmanager
    def _kept(self, node_id: str, workspace_id: str) -> Iterator[None]:
        home = self._homes.setdefault(workspace_id, _Home(node_id))
        self._homes.move_to_end(workspace_id)
        while len(self._homes) > MAX_HOMES:
            self._homes.popitem(last=False)
        home.waiting += 1
        try:
            yield
        finally:
            home.waiting -= 1
            if not home.has_files and not home.waiting and self._homes.get(workspace_id) is home:
                del self._homes[workspace_id]
