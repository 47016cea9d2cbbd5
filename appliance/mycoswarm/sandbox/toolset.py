"""The built-in tools: what a model is told of each, and what each needs of the node."""

from dataclasses import dataclass, field
from typing import Any, Literal

from mycoswarm.wire.tool import ToolSpec

MAX_PATH = 1024
MAX_FILE = 200_000  # characters that one call reads or writes
MAX_EXPRESSION = 1000
MAX_QUERY = 1000
MAX_RECALLED = 20  # passages
MAX_NOTE = 1500  # characters; as long as a passage

# child: our own bounded code, at any level. sandbox: files or programs. coordinator: answered there, nothing is run.
# network: the node reaches out for it. server: a program of the owner's, that speaks MCP, in the sandbox.
Where = Literal["child", "sandbox", "coordinator", "network", "server"]
Beyond = Literal["LAN", "outside"]  # two of the places in swarm/place.py
WITH_FILES: frozenset[Where] = frozenset({"sandbox", "server"})  # these work in the run's workspace


@dataclass(frozen=True, slots=True)
class Tool:
    """`within_s`: the longest that one call may take. `means`: what the node must know besides the arguments, as the
    owner set it, such as a server's command; JSON text, and no ledger has it. `asks`: how far away that is which the
    node hands the call on to, None where it hands it on to nobody."""

    spec: ToolSpec
    where: Where
    within_s: float = 30.0
    means: str = field(default="", repr=False)
    asks: Beyond | None = None


def _text(description: str, most: int, least: int = 1) -> dict[str, Any]:
    return {"type": "string", "description": description, "minLength": least, "maxLength": most}


def _whole(description: str, first: int, last: int) -> dict[str, Any]:
    return {"type": "integer", "description": description, "minimum": first, "maximum": last}


def _tool(
    name: str, description: str, properties: dict[str, Any], required: tuple[str, ...], where: Where, within_s: float
) -> Tool:
    shape: dict[str, Any] = {"type": "object", "properties": properties, "required": list(required)}
    # The built-in tools that reach out ask the web, be it by way of a search server at hand.
    asks: Beyond | None = "outside" if where == "network" else None
    return Tool(ToolSpec(name, description, {**shape, "additionalProperties": False}), where, within_s, asks=asks)


_PATH = _text("the path of the file, inside the workspace", MAX_PATH)
_SECONDS = _whole("stop it after so many seconds", 1, 300)

TOOLS: dict[str, Tool] = {
    tool.spec.name: tool
    for tool in (
        _tool(
            "calculator",
            "Work out an arithmetic expression.",
            {"expression": _text("such as 12+30", MAX_EXPRESSION)},
            ("expression",),
            "child",
            10,
        ),
        _tool(
            "clock",
            "Tell the date and the time.",
            {"place": _text("a city or a time zone", 100)},
            (),
            "child",
            10,
        ),
        _tool("list_nodes", "List the machines of the swarm.", {}, (), "coordinator", 10),
        _tool(
            "explain_route",
            "Tell where the rules let a request run, and why.",
            {
                "task": _text("chat, completion, embedding, agent or tool:NAME", 200),
                "model": _text("the model's name", 200),
            },
            (),
            "coordinator",
            10,
        ),
        _tool(
            "recall",
            "Find passages in the owner's documents and in what was remembered.",
            {
                "query": _text("what to look for: words, or a question", MAX_QUERY),
                "most": _whole("passages to find", 1, MAX_RECALLED),
            },
            ("query",),
            "coordinator",
            60,
        ),
        _tool(
            "remember",
            "Keep a note, to be recalled later.",
            {"text": _text("the note", MAX_NOTE)},
            ("text",),
            "coordinator",
            10,
        ),
        _tool("read_file", "Read a text file.", {"path": _PATH}, ("path",), "sandbox", 30),
        _tool(
            "write_file",
            "Write a text file, over the old one if there is one.",
            {"path": _PATH, "text": _text("all that the file is to hold", MAX_FILE, 0)},
            ("path", "text"),
            "sandbox",
            30,
        ),
        _tool(
            "edit_file",
            "Replace a text that stands exactly once in a file.",
            {
                "path": _PATH,
                "old": _text("the text as it stands there", MAX_FILE),
                "new": _text("the text to put in its place", MAX_FILE, 0),
            },
            ("path", "old", "new"),
            "sandbox",
            30,
        ),
        _tool(
            "list_files",
            "List the files of the workspace, or of one folder in it.",
            {"path": _text("the folder", MAX_PATH)},
            (),
            "sandbox",
            30,
        ),
        _tool(
            "search_files",
            "Find the lines that hold a text, in all files of the workspace or of one folder in it.",
            {"text": _text("what to look for, exactly", 1000), "path": _text("the folder", MAX_PATH)},
            ("text",),
            "sandbox",
            60,
        ),
        _tool(
            "run_shell",
            "Run a shell command in the workspace. There is no network.",
            {"command": _text("for sh -c", 20_000), "seconds": _SECONDS},
            ("command",),
            "sandbox",
            300,
        ),
        _tool(
            "run_python",
            "Run a Python program in the workspace and give what it prints. There is no network.",
            {"code": _text("the program", MAX_FILE), "seconds": _SECONDS},
            ("code",),
            "sandbox",
            300,
        ),
        _tool(
            "fetch_page",
            "Read a page of the web as text.",
            {
                "url": _text("such as https://example.org/page", 2048),
                "part": _whole("which part of a long page, from 1", 1, 200),
            },
            ("url",),
            "network",
            90,
        ),
        _tool(
            "search_web",
            "Search the web: titles, addresses and short texts of pages.",
            {"query": _text("what to look for", 400)},
            ("query",),
            "network",
            60,
        ),
    )
}
