"""Rules in short words, for one line of a table."""

from typing import Any


def when_words(when: dict[str, Any]) -> str:
    """What a rule is for."""
    parts = [f"{name} {when[name]}" for name in ("model", "task") if name in when]
    parts += [f"{name[:-1]} {_either(when[name])}" for name in ("keys", "users") if when.get(name)]
    labels = when.get("labels", {})
    parts += [f"{how} of {', '.join(labels[how])}" for how in ("any", "all", "none") if labels.get(how)]
    if (span := when.get("characters")) is not None:
        parts.append(f"{span.get('from', 0)} to {span.get('to', 'any number of')} characters")
    if (hours := when.get("hours")) is not None:
        days = f" on {', '.join(hours['days'])}" if hours.get("days") else ""
        parts.append(f"{hours.get('from', '00:00')} to {hours.get('to', '24:00')}{days} ({hours.get('zone', 'UTC')})")
    if when.get("client"):
        parts.append(f"from {_either(when['client'])}")
    return "; ".join(parts) or "always"


def chain_words(rule: dict[str, Any]) -> str:
    """What a rule does, with its fallbacks."""
    return ", else ".join(action_words(action) for action in (rule.get("then", {}), *rule.get("fallback", ())))


def action_words(action: dict[str, Any]) -> str:
    """What one action does."""
    kind = action.get("do", "run")
    if kind == "ask":
        return f"ask, then {action_words(action.get('then', {}))}"
    if kind == "deny":
        return "deny"
    if kind == "external":
        return f"endpoint {action.get('name')}" + (f" as {action['model']}" if action.get("model") else "")
    named = [*action.get("nodes", ()), *(f"tag {tag}" for tag in action.get("tags", ())), *action.get("facts", ())]
    more = [f"split {action['split'].removeprefix('split ')}"] if "split" in action else []
    more += [", ".join(action["places"])] if "places" in action else []
    more += [f"rather {', '.join(action['prefer'])}"] if action.get("prefer") else []
    return f"run on {', '.join(named) or 'any node'}" + (f" ({'; '.join(more)})" if more else "")


def _either(words: list[str]) -> str:
    return " or ".join(words)
