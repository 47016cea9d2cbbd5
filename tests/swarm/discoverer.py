"""One node that only discovers, as a process of its own: orders come on stdin, JSON lines go to stdout.

"start ADDRESS..." (none: every network) announces and hears; the answer is the moment of the first announcement and,
once as many others as argv names are heard, the moment of that and their addresses. "stop" says goodbye.
Moments are of the monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import secrets
import sys
import time

from mycoswarm.swarm.candidate import Announcement
from mycoswarm.swarm.discovery import Discovery


async def _round(named: list[str], others: int, name: str) -> None:
    said = Announcement(
        node_id=secrets.token_hex(16),
        instance_id=secrets.token_hex(8),
        name=name,
        role="unclaimed",
        swarm=None,
        peer_port=6927,
        door_port=6928,
        version=1,
    )
    async with Discovery(said, named=named or None) as discovery:
        is_complete = await discovery.wait_until(lambda heard: len(heard) >= others, 5)
        moment = time.monotonic()
        found = {each.announcement.name: each.announcement.addresses for each in discovery.candidates()}
        report = {"announced_s": discovery.announced_s, "complete_s": moment if is_complete else None, "found": found}
        print(json.dumps(report), flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # "stop"
    print(json.dumps({"stopped": True}), flush=True)


def main() -> None:
    """Serve orders until stdin closes."""
    name, others = sys.argv[1], int(sys.argv[2])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asyncio.run(_round(line.split()[1:], others, name))


if __name__ == "__main__":
    main()
