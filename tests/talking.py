"""The dashboard's chat as a person uses it, for tests."""

from playwright.sync_api import Locator, expect

from browsing import Visit

ANSWER_MS = 30_000  # a model is loaded first, on a machine that does other work besides


class Talk:
    """The chat of a page."""

    def __init__(self, visit: Visit, **choices: str) -> None:
        self.visit, self.page = visit, visit.page
        visit.go("chat")
        self.choose(**choices)

    @property
    def answers(self) -> Locator:
        """All answers so far."""
        return self.page.locator("article.answer")

    @property
    def last(self) -> Locator:
        """The newest answer."""
        return self.answers.last

    def choose(self, **choices: str) -> None:
        """Set what stands above the chat: model, agent, labels, route, system."""
        if choices:
            box = self.page.locator("details", has_text="Model, agent, labels").first
            if box.get_attribute("open") is None:
                box.locator("summary").click()
        for name, value in choices.items():
            field = self.page.locator(f"[name={name}]")
            if name in ("model", "agent"):
                field.select_option(value)
            else:
                field.fill(value)

    def say(self, text: str) -> Locator:
        """Send a message; gives its answer, which has begun."""
        before = self.answers.count()
        self.page.get_by_label("Your message").fill(text)
        self.page.get_by_role("button", name="Send").click()
        expect(self.answers).to_have_count(before + 1)
        return self.answers.nth(before)

    def rest(self) -> Locator:
        """Wait until the newest answer has ended."""
        expect(self.last).not_to_have_attribute("aria-busy", "true", timeout=ANSWER_MS)
        self.visit.settle()
        return self.last

    def ask(self, text: str) -> Locator:
        """Send a message and wait for its whole answer."""
        self.say(text)
        return self.rest()


def fact(answer: Locator, name: str) -> str:
    """The value beside this name."""
    return answer.locator("dt", has_text=name).locator("xpath=following-sibling::dd[1]").inner_text()
