"""A decision in words: where a request would go, and why. The same for `ask --explain` and `rules explain`."""

from typing import Any

from mycoswarm.cli.screen import say


def show_reasons(told: dict[str, Any]) -> None:
    """Write what `/api/explain` and `/api/rules/explain` answer."""
    say(_outcome(told))
    if told.get("ask_s") is not None:
        say(f"Before that the owner is asked; no answer within {told['ask_s']:g} s is a no.")
    say(f"Rule: {told['rule'] or 'none matches'}. Because {told['reason']}.")
    if told.get("limit"):
        say(
            f"Limit: {told['limit']!r}, which would match without the labels that the request adds; both must allow it."
        )
    if told.get("note"):
        say(f"Note: {told['note']}.")
    _list("Earlier rules", [f"{one['rule']}: {one['because']}" for one in told.get("passed_rules", ())])
    _list("Tried before", [f"{one['action']}: {one['because']}" for one in told.get("tried", ())])
    _list("Nodes", [f"{n['name']}: {'in' if n['chosen'] else 'out'}, {n['reason']}" for n in told.get("nodes", ())])


def _outcome(told: dict[str, Any]) -> str:
    if not told["allowed"]:
        return "It would be refused."
    if told.get("endpoint"):
        endpoint = told["endpoint"]
        return f"It would go to the endpoint {endpoint['name']} ({endpoint['place']}) as {endpoint['model']}."
    if told.get("tool_node"):
        return f"The tool would run on {told['tool_node']}."
    placed = ", ".join(f"{s['node']} layers [{s['layers'][0]}, {s['layers'][1]})" for s in told["stages"])
    return f"It would run on {placed}, at about {told['predicted_tokens_per_s']:.0f} tokens/s."


def _list(heading: str, lines: list[str]) -> None:
    if lines:
        say(f"{heading}:")
        for line in lines:
            say(f"  {line}")
