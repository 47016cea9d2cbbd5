"""Small doors: several Origin headers, owners' JSON, tokens on command lines, prompts in core files."""

import asyncio
import json
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from consoles import KEY, console
from mycoswarm.cli.enrol import join
from mycoswarm.cli.screen import show_json
from mycoswarm.stage.supervisor import StageProcess
from nodes import stage_launch


@pytest.mark.parametrize(
    ("origins", "status"),
    [(("own",), 200), (("own", "http://evil.example"), 403), (("http://evil.example", "own"), 403)],
)
def test_every_origin_that_is_named_must_be_our_own(origins: tuple[str, ...], status: int) -> None:
    async def main() -> int:
        async with console() as made:
            own = f"http://127.0.0.1:{made.port}"
            headers = [f"Origin: {own if origin == 'own' else origin}" for origin in origins]
            return (await made.get("/v1/models", f"Authorization: Bearer {KEY}", *headers))[0]

    assert asyncio.run(main()) == status


def test_a_join_token_may_come_over_stdin_where_no_other_user_sees_it(tmp_path: Path) -> None:
    for arguments in (["-"], ["mst-secret"]):
        told = CliRunner().invoke(join, arguments, input="mst-secret\n", obj=tmp_path)
        assert told.exit_code == 4  # no daemon runs there, which is found out once the token is read
        assert "mst-secret" not in told.output


def test_json_shown_on_a_terminal_moves_no_cursor_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "Grüße 😀\x1b[2J\x9b2J\u202e\U000e0001\n\t"}
    show_json(value)
    shown = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "Grüße 😀" in shown and json.loads(shown) == value


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can be read on Linux alone")
def test_a_stage_leaves_no_core_file_with_what_people_wrote(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), StageProcess(stage_launch(tmp_path), node_id="a") as stage:
            while psutil.Process(stage.pid).rlimit(psutil.RLIMIT_CORE) != (0, 0):
                await asyncio.sleep(0.02)

    asyncio.run(main())
