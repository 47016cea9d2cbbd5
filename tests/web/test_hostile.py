"""Names, answers and tools that would like to be code: they are shown as text, and nothing else comes of them."""

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Route, expect

from browsing import DESKTOP, PHONE, VIEWS, Opened, Visit
from models import write_random_model
from mycoswarm.cli.fleet import ARGV, Fleet
from puppet import Line, Puppet
from talking import Talk, fact

pytestmark = pytest.mark.slow

PICTURE = "<img src=x onerror=window.hit=1>"
ANSWERS = {
    "picture": PICTURE,
    "script": "<script>window.hit = 1</script><svg onload=window.hit=1><iframe srcdoc='<script>top.hit=1</script>'>",
    "link": "[press](javascript:window.hit=1) <a href='javascript:window.hit=1'>me</a> <http://evil.invalid/x>",
    "elsewhere": "![pixel](http://evil.invalid/pixel.png) <link rel=stylesheet href=//evil.invalid/a.css>",
    "marks": "invoice\u202efdp.exe \u2066hidden\u2069 zero\u200bwidth \u061c",
    "fence": f"```html\n{PICTURE}\n~~~\n```` still\n| a | b\n# {PICTURE}",
    "attribute": "\" onmouseover=window.hit=1 x=\" ' onfocus=window.hit=1 autofocus '",
    "template": "${window.hit = 1} {{constructor.constructor('window.hit=1')()}} `${window.hit=1}`",
    "zalgo": "Z" + "\u0351\u036b\u0343\u036a\u0302" * 200,
}
# Marks of direction in what is read out or shown beside the pointer, where no text of the page would show them.
MARKED = """() => [...document.querySelectorAll("*")].flatMap((one) => ["aria-label", "title", "alt", "placeholder"]
    .map((name) => one.getAttribute(name))).filter((text) => /[\\u202a-\\u202e\\u2066-\\u2069]/.test(text ?? ""))"""
# What none of these pages has, and what only hostile text would bring.
STRANGE = (
    "main img, main script, main iframe, main object, main embed, main link, main style, main base, main form[action],"
    " main a:not([href^='#']), [srcdoc], [onerror], [onload], [onclick], [onmouseover], [onfocus]"
)


def assert_harmless(visit: Visit) -> None:
    """Nothing ran, nothing of it became an element, and the page is no wider than its window, also on a phone."""
    page = visit.page
    assert page.evaluate("window.hit") is None
    assert page.evaluate(MARKED) == []
    assert page.locator(STRANGE).count() == 0, page.locator(STRANGE).first.evaluate("(one) => one.outerHTML")
    for size in (PHONE, DESKTOP):
        visit.size(*size)
        assert visit.overflow() <= 0, f"{visit.overflow()} pixels too wide at {size}"
    assert not [url for url in visit.watch.addresses if "evil" in url]


def test_an_answer_is_text_whatever_it_says(open_page: Opened, puppet: Puppet) -> None:
    puppet.lines |= {name: Line([text[:7], text[7:]]) for name, text in ANSWERS.items()}
    visit = open_page()
    talk = Talk(visit, model="puppet", system=PICTURE)
    for name, text in ANSWERS.items():
        answer = talk.ask(name)
        plain = re.findall(r"[a-z]{4,}", text)
        shown = answer.inner_text()
        assert all(word in shown for word in plain if word != "html"), (name, shown)
    assert "U+202E" in talk.page.locator("main").inner_text()
    assert_harmless(visit)


def test_a_megabyte_in_one_line_and_a_hundred_thousand_lines_leave_the_page_usable(
    open_page: Opened, puppet: Puppet
) -> None:
    puppet.lines["long"] = Line(["x" * 16_384] * 64)
    puppet.lines["many"] = Line(["- a\n" * 4096] * 24)
    visit = open_page()
    talk = Talk(visit, model="puppet")
    talk.ask("long")
    talk.ask("many")
    assert_harmless(visit)
    began = talk.page.evaluate("performance.now()")
    talk.page.get_by_label("Your message").fill("still here")
    visit.go("swarm")
    assert talk.page.evaluate("performance.now()") - began < 5000
    expect(talk.page.locator("section[data-node]")).to_have_count(3)


def test_what_is_said_asked_and_attached_is_text(open_page: Opened, puppet: Puppet) -> None:
    visit = open_page()
    talk = Talk(visit, model="puppet")
    name = f"{PICTURE}.txt".replace("/", "")
    talk.page.get_by_label("Attach text files").set_input_files(
        [{"name": name, "mimeType": "text/plain", "buffer": ANSWERS["script"].encode()}]
    )
    talk.ask(PICTURE + "\n" + ANSWERS["script"])
    expect(talk.page.locator("article.said")).to_contain_text(PICTURE)
    assert_harmless(visit)


@pytest.fixture
def open_shell(fleet: Fleet, puppet: Puppet) -> Iterator[str]:
    """An agent whose commands run unasked, under a rule with a hostile name; gives that name."""
    call, name = fleet.coordinator.call, f"{PICTURE} <b>shell</b>"
    call.ask(
        "PUT", "/api/agents/wild", {"toml": f'description = "{PICTURE}"\nmodel = "puppet"\ntools = ["run_shell"]\n'}
    )
    for number, wanted in enumerate(({"task": "tool:run_shell"}, {"labels": {"any": ["wild"]}})):
        rule = {"name": f"{name} {number}", "when": wanted, "then": {"do": "run"}}
        call.ask("POST", "/api/rules", {"rule": rule, "position": 1})
    yield name
    for number in range(2):
        call.ask("DELETE", f"/api/rules/{quote(f'{name} {number}', safe='')}", {})
    call.ask("DELETE", "/api/agents/wild")


def test_a_tools_output_and_a_rules_name_are_text(open_page: Opened, open_shell: str, puppet: Puppet) -> None:
    told = "\n".join(ANSWERS.values()) + "y" * 3000
    puppet.lines["shell"] = Line([PICTURE], call=("run_shell", {"command": f"cat <<'END'\n{told}\nEND"}))
    puppet.lines["strange tool"] = Line(["no"], call=(PICTURE, {PICTURE: PICTURE}))
    visit = open_page()
    talk = Talk(visit, agent="wild")
    answer = talk.ask("shell")
    answer.locator("details.step summary").click()
    given, out = answer.locator("details.step pre").all_inner_texts()
    assert PICTURE in given and PICTURE in out and "U+202E" in out and "window.hit = 1" in out
    expect(talk.ask("strange tool")).to_contain_text(PICTURE)
    assert_harmless(visit)
    talk.choose(agent="", model="spore", labels="wild")
    assert open_shell in fact(talk.ask("Hello!"), "Rule")
    assert_harmless(visit)


def test_a_node_with_the_longest_name_fits(open_page: Opened) -> None:
    name = f"long-{os.getpid()}-".ljust(63, "m")
    with Fleet(workers=0, flags=("--threads", "1", "--name", name)):
        visit = open_page()
        expect(visit.page.get_by_role("button", name=f"Adopt {name}")).to_be_visible()
        assert_harmless(visit)


def test_a_model_with_the_longest_name_fits_and_a_hostile_name_is_not_taken(
    open_page: Opened, fleet: Fleet, tmp_path: Path
) -> None:
    file, name = write_random_model(tmp_path / "model.gguf", n_layer=1), "M" * 120

    def models(*words: str) -> int:
        argv = [*ARGV, "--data", str(fleet.coordinator.folder), "models", *words]
        return subprocess.run(argv, capture_output=True, timeout=60).returncode

    assert models("add", str(file), "--name", PICTURE) != 0
    assert models("add", str(file), "--name", name) == 0
    visit = open_page()
    expect(visit.page.locator("section[data-node=coordinator]")).to_contain_text(name)
    assert_harmless(visit)
    Talk(visit, model=name)
    assert_harmless(visit)
    fleet.coordinator.call.ask("DELETE", f"/api/models/{name}")


def poisoned(value: Any, key: str = "") -> Any:
    """The same with hostile texts in the place of all texts but ids, which find things again."""
    if isinstance(value, dict):
        return {name: poisoned(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one, key) for one in value]
    if isinstance(value, str) and not key.endswith(("id", "digest", "csrf")):
        return f"{value} {PICTURE}\u202e{'w' * 80} \"'`${{window.hit=1}}"
    return value


def first_event(fleet: Fleet, cookie: str) -> dict[str, Any]:
    """All sections, as the stream of events begins."""
    request = urllib.request.Request(f"http://{fleet.console()}/api/events", headers={"cookie": cookie})
    with urllib.request.urlopen(request, timeout=20) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                sections: dict[str, Any] = json.loads(line[6:])
                return sections
    raise AssertionError("no event came")


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_whatever_the_node_says_as_text(
    open_page: Opened, lived_in: Fleet, sessions: Any, view: str
) -> None:
    """Each text in each answer of the API, and in the stream, is hostile: names, cards, conditions, reasons, all."""
    sections = poisoned(first_event(lived_in, sessions(True)))
    stream = f"retry: 60000\n\nevent: state\nid: x-1\ndata: {json.dumps(sections)}\n\n"
    visit = open_page()
    # The stream ends and is asked for again: the page is told that, too.
    visit.expect(r"request failed: net::ERR_")
    visit.expect_answers(404)  # the node knows nothing of such names

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path == "/api/events":
            route.fulfill(body=stream, content_type="text/event-stream")
            return
        came = route.fetch()
        try:
            body = json.dumps(poisoned(came.json()))
        except ValueError:
            body = came.text()
        route.fulfill(response=came, body=body)

    visit.page.route(re.compile(r"/(api|v1)/"), answer)
    visit.page.reload()
    visit.page.wait_for_selector("nav.views")
    visit.go(view)
    visit.open_all()
    assert PICTURE in (visit.page.locator("main").text_content() or "")
    assert_harmless(visit)
    if view == "settings":
        visit.expect("dialog: ")
        visit.page.get_by_role("button", name="Revoke").first.click()
        (asked,) = [one for one in visit.watch.problems if one.startswith("dialog: ")]
        assert "⟨U+202E⟩" in asked and "\u202e" not in asked
    visit.go("chat" if view != "chat" else "swarm")
    visit.page.unroute_all(behavior="ignoreErrors")
