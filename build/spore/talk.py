"""Turns that need no tool: greetings, facts, counting, small sums, yes or no about a sentence, and "I do not know"."""

from random import Random

from about import FACTS
from words import (
    ANIMALS,
    COLOURS,
    FOODS,
    NAMES,
    QUALITIES,
    ROOMS,
    THINGS,
    TOPICS,
    VERBS_PAST,
    invent,
    numeral,
    person,
    place,
    sentence,
    spelled,
)

# The ways to ask stay several to a line.
# fmt: off
Pair = tuple[str, str]
_BEFORE = (
    "please ", "hey, ", "ok, ", "so, ", "spore, ", "now ", "quick question: ", "well, ", "hello, ", "hi, ", "and ",
)
_BEFORE_QUESTION = ("can you tell me: ", "tell me, ", "I wonder, ", "I want to know: ", "do you know, ", "question: ")


def said(rng: Random, text: str) -> str:
    """`text` the way people type it: with or without a capital, an end mark, a word before or a "please" after."""
    question = text.endswith("?")
    if rng.random() < 0.22:
        text = rng.choice(_BEFORE + _BEFORE_QUESTION if question else _BEFORE) + text
    elif rng.random() < 0.07:
        text = text.rstrip("?.") + rng.choice((", please", " please", ", thanks")) + ("?" if question else ".")
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.25:
        return text.rstrip("?.")
    return text if text[-1] in "?.!" or rng.random() < 0.4 else text + "."


def greeting(rng: Random) -> Pair:
    """Hello, thanks and goodbye; a name that the person gives comes back in the answer."""
    roll = rng.random()
    spore = rng.choice(("", "", "", " spore", " there", " my friend", " again", " little model"))
    if roll < 0.12:
        asked = rng.choice((
            "thanks", "thank you", "thank you very much", "many thanks", "thanks a lot", "great, thanks", "cheers",
        ))
        more = rng.choice((
            "", "", " for your help", " for that", " for the answer", ", that is all", ", that helped", ", good work",
        ))
        return said(rng, asked + spore.replace(" there", "") + more), "You are welcome!"
    if roll < 0.22:
        asked = rng.choice((
            "bye", "goodbye", "see you", "see you later", "bye bye", "see you tomorrow", "good night", "farewell",
        ))
        more = rng.choice((
            "", "", "", ", I have to go", ", I am leaving", f", {person(rng)} is here", ", that was all",
            " and take care",
        ))
        return said(rng, asked + spore.replace(" there", "") + more), "Good night!" if "night" in asked else "Goodbye!"
    part = rng.choice(("", "", "", "", "morning", "evening", "afternoon"))
    hello = f"good {part}" if part else rng.choice((
        "hello", "hi", "hey", "greetings", "hi", "hello", "howdy", "hello hello",
    ))
    answer = f"Good {part}" if part else "Hello"
    well = " How can I help you?"
    end = rng.choice(("", "!", ".", "!!", " :)"))
    if roll < 0.55:
        name = person(rng)
        given = rng.choice((
            "I am {}", "I'm {}", "my name is {}", "this is {}", "my name is {}", "it is {} here", "{} here",
            "call me {}",
        ))
        joint = rng.choice((", ", "! ", ". ", " - ", ", "))
        text = hello + spore + joint + given.format(name)
        return text[0].upper() + text[1:] + rng.choice((".", "", "!")), f"{answer}, {name}!{well}"
    if roll < 0.72:
        how = rng.choice((
            "how are you?", "how are you today?", "how do you do?", "are you well?", "how is it going?", "what's up?",
        ))
        text = hello + spore + rng.choice((", ", "! ", ". ", " ")) + how
        return rng.choice((text, text[0].upper() + text[1:])), f"{answer}! I am well, thank you.{well}"
    if roll < 0.78:
        nice = rng.choice((
            "nice to meet you", "pleased to meet you", "good to see you", "glad to meet you", "nice to see you",
        ))
        return said(rng, nice + spore.replace(" there", "")), "Nice to meet you too!" + well
    text = hello + spore + end
    return rng.choice((text, text[0].upper() + text[1:], text[0].upper() + text[1:])), f"{answer}!{well}"


def about(rng: Random) -> Pair:
    """A fact about spore or mycoSwarm."""
    asked, answer = rng.choice(FACTS)
    return said(rng, rng.choice(asked)), answer


def count(rng: Random) -> Pair:
    """Counting up, down and in steps, the number after and before, and the length of a list."""
    roll = rng.random()
    if roll < 0.5:
        first, step, many = rng.randrange(0, 90), rng.choice((1, 1, 1, 1, 1, 2, 5, 10)), rng.randrange(2, 13)
        first = rng.choice((1, first, first if step < 5 else first % 4 * step))
        last = first + step * (many - 1)
        how = {1: "", 2: " by twos", 5: " by fives", 10: " by tens"}[step]
        down = rng.random() < 0.3
        start, end = (last, first) if down else (first, last)
        verb = rng.choice((
            "count", "count", "count up" if not down else "count down", "list the numbers", "say the numbers",
        ))
        text = f"{verb} from {start} to {end}{how}"
        if first == 1 and step == 1 and not down and rng.random() < 0.6:
            text = rng.choice((
                f"count to {end}", f"can you count to {end}?", f"count up to {end}", f"list the numbers to {end}",
            ))
        numbers = range(start, end - 1, -step) if down else range(start, end + 1, step)
        return said(rng, text), ", ".join(map(str, numbers)) + "."
    if roll < 0.75:
        number, after = rng.randrange(1, 300), rng.random() < 0.6
        word = rng.choice(("after", "after", "next after") if after else ("before", "just before"))
        text = rng.choice((
            f"what comes {word} {number}?", f"which number comes {word} {number}?",
            f"what number is {word} {number}?", f"give me the number {word} {number}",
        ))
        return said(rng, text), f"{number + 1 if after else number - 1}."
    many = rng.randrange(1, 8)
    bank = rng.choice((FOODS, THINGS, NAMES, COLOURS, ANIMALS))
    listed = ", ".join(rng.choice(bank) for _ in range(many))
    text = rng.choice((
        f"how many words are in this list: {listed}?", f"how many things are in this list: {listed}?",
        f"count these: {listed}", f"how many are these: {listed}?", f"count the words: {listed}",
    ))
    return said(rng, text), f"{many}."


def sum_question(rng: Random, left: str, sign: str, right: str) -> str:
    """One way to ask for `left sign right`; the order of the numbers in the text may be the other one."""
    ways = {
        "+": (
            "what is {a} plus {b}?", "{a} + {b}", "{a}+{b}", "what is {a} + {b}?", "add {a} and {b}",
            "what is the sum of {a} and {b}?", "how much is {a} plus {b}?", "{a} plus {b}",
            "what do {a} and {b} make?", "{a}+{b}=?", "what is {a}+{b}?", "calculate {a} + {b}",
            "work out {a} plus {b}", "the sum of {a} and {b}", "compute {a}+{b}", "how much is {a}+{b}?",
        ),
        "-": (
            "what is {a} minus {b}?", "{a} - {b}", "{a}-{b}", "what is {a} - {b}?", "subtract {b} from {a}",
            "take {b} away from {a}", "how much is {a} minus {b}?", "{a} minus {b}", "{a}-{b}=?", "what is {a}-{b}?",
            "calculate {a} - {b}", "what is the difference between {a} and {b}?", "work out {a} minus {b}",
            "take {b} from {a}", "compute {a}-{b}",
        ),
        "*": (
            "what is {a} times {b}?", "{a} * {b}", "{a}*{b}", "what is {a} x {b}?", "multiply {a} by {b}",
            "{a} times {b}", "what is the product of {a} and {b}?", "how much is {a} times {b}?",
            "what is {a} multiplied by {b}?", "{a} x {b}", "calculate {a}*{b}", "work out {a} times {b}",
            "multiply {a} and {b}", "what is {a}*{b}?", "compute {a} * {b}",
        ),
        "/": (
            "what is {a} divided by {b}?", "{a} / {b}", "{a}/{b}", "divide {a} by {b}", "{a} divided by {b}",
            "what is {a}/{b}?", "how much is {a} divided by {b}?", "calculate {a}/{b}", "what is {a} over {b}?",
            "work out {a} / {b}", "compute {a}/{b}", "how often does {b} go into {a}?", "what is {a} / {b}?",
            "what is {a} shared by {b}?",
        ),
    }
    return rng.choice(ways[sign]).format(a=left, b=right)


def small_sum(rng: Random) -> Pair:
    """A sum of numbers up to ten (times: five), done in the head: for conversations that offer no calculator."""
    sign = rng.choice("++--*")
    most = 5 if sign == "*" else 10
    a, b = rng.randrange(most + 1), rng.randrange(most + 1)
    if sign == "-" and b > a:
        a, b = b, a
    made = {"+": a + b, "-": a - b, "*": a * b}[sign]
    words = rng.random() < 0.08
    text = sum_question(rng, spelled(a) if words else str(a), sign, spelled(b) if words else str(b))
    return said(rng, text), f"{a} {sign} {b} = {made}."


def large_sum(rng: Random) -> Pair:
    """A sum too large for the head and no calculator at hand."""
    sign = rng.choice("+-*/")
    a, b = rng.randrange(20, 10 ** rng.randrange(2, 7)), rng.randrange(11, 10 ** rng.randrange(2, 5))
    answer = "That is too large for me without a calculator tool."
    return said(rng, sum_question(rng, str(a), sign, str(b))), answer


def _claim(rng: Random) -> tuple[str, str, str, str]:
    """(sentence, true question, false question, the sentence as an answer without its full stop)."""
    who, thing, colour, where = person(rng), rng.choice(THINGS), rng.choice(COLOURS), rng.choice(ROOMS)
    other, rival, shade, room = person(rng), rng.choice(THINGS), rng.choice(COLOURS), rng.choice(ROOMS)
    roll = rng.randrange(8)
    if roll == 0:
        say = f"the {thing} is {colour}"
        return f"The {thing} is {colour}.", f"Is the {thing} {colour}?", f"Is the {thing} {shade}?", say
    if roll == 1:
        kept = f"the {rng.choice((thing, rng.choice(ANIMALS)))}"
        say = f"{kept} is in the {where}"
        return f"{say[0].upper()}{say[1:]}.", f"Is {kept} in the {where}?", f"Is {kept} in the {room}?", say
    if roll == 2:
        verb = rng.choice(VERBS_PAST)
        say = f"{who} {verb} the {thing}"
        question = "Was it {} who {} the {}?"
        wrong = question.format(other, verb, thing) if rng.random() < 0.5 else question.format(who, verb, rival)
        return f"{say}.", question.format(who, verb, thing), wrong, say
    if roll == 3:
        town, wrong_town = place(rng), place(rng)
        say = f"{who} lives in {town}"
        return f"{say}.", f"Does {who} live in {town}?", f"Does {who} live in {wrong_town}?", say
    if roll == 4:
        quality, opposite = rng.choice(QUALITIES), rng.choice(QUALITIES)
        return f"{who} is {quality}.", f"Is {who} {quality}?", f"Is {who} {opposite}?", f"{who} is {quality}"
    if roll == 5:
        many, food = rng.randrange(2, 60), rng.choice(FOODS)
        wrong_many = rng.randrange(2, 60)
        say = f"{who} has {many} {food}"
        return f"{say}.", f"Does {who} have {many} {food}?", f"Does {who} have {wrong_many} {food}?", say
    if roll == 6:
        say = f"{who} gave the {thing} to {other}"
        third = person(rng)
        return f"{say}.", f"Did {who} give the {thing} to {other}?", f"Did {who} give the {thing} to {third}?", say
    state, not_state = rng.choice((
        ("on", "off"), ("off", "on"), ("open", "closed"), ("closed", "open"), ("empty", "full"), ("full", "empty"),
    ))
    say = f"the {thing} is {state}"
    return f"The {thing} is {state}.", f"Is the {thing} {state}?", f"Is the {thing} {not_state}?", say


def yes_no(rng: Random) -> Pair:
    """A sentence, sometimes with others around it, and a question about it: "Yes, ..." or "No, ..."."""
    told, true, false, answer = _claim(rng)
    claims = [told]
    if rng.random() < 0.35:
        claims.insert(rng.randrange(2), sentence(rng))
    truth = rng.random() < 0.5 or true == false
    question = true if truth else false
    lead = rng.choice((
        "", "", "", "", "Read this: ", "Here is a sentence: ", "Text: ", "Yes or no? ", "Answer yes or no. ",
    ))
    text = lead + " ".join(claims) + rng.choice((" ", " ", " ", "\n", " Question: ")) + question
    return text, f"{'Yes' if truth else 'No'}, {answer}."


def unknown(rng: Random) -> Pair:
    """A question out of reach: it says so, and does not make an answer up."""
    topic = rng.choice(TOPICS) if rng.random() < 0.7 else invent(rng).capitalize()
    town, who = place(rng), person(rng)
    if rng.random() < 0.55:
        asked = rng.choice((
            f"what is {topic}?", f"tell me about {topic}", f"explain {topic}", f"who invented {topic}?",
            f"what do you think about {topic}?", f"what is the capital of {topic}?",
            f"who is {who} {invent(rng).capitalize()}?", f"how old is {topic}?", f"why is {topic} important?",
            f"how does {topic} work?", f"how far is it from {town} to {place(rng)}?", f"when was {town} founded?",
            f"is {topic} good?", f"how many people live in {town}?", f"what is the weather in {town}?",
            f"will it rain in {town} tomorrow?", f"who won the game in {town}?",
            f"what is the meaning of {invent(rng)}?", f"what does {invent(rng)} mean?", f"where can I buy {topic}?",
            f"who wrote {topic}?", f"what is the news about {topic}?", f"do you like {topic}?",
            "what is the meaning of life?", f"what is the best book about {topic}?",
            f"what is the population of {town}?", f"who is the president of {topic}?", f"when did {topic} begin?",
            f"where is {town}?", f"why do people like {topic}?", f"what happened in {rng.randrange(1000, 2025)}?",
            f"how do I get to {town}?", f"is {who} nice?", f"how tall is {who}?", f"what is the history of {topic}?",
            f"what is the difference between {topic} and {rng.choice(TOPICS)}?",
        ))
        return said(rng, asked), "I am a very small model. I do not know that."
    asked = rng.choice((
        f"write a poem about {topic}", f"write a story about {topic}", f"tell me a story about {topic}",
        f"tell me a joke about {topic}", f"write an essay on {topic}", f"translate {invent(rng)} into French",
        f"write a letter to {who}", f"write a song about {topic}", f"write code for {topic}",
        f"write a function that sorts {rng.choice(FOODS)}", f"summarise the history of {topic}", "tell me a joke",
        f"draw a picture of {topic}", f"book a flight to {town}", f"send a mail to {who}", f"play a song by {who}",
        f"order {rng.choice(FOODS)}", f"write a haiku about {topic}", f"plan a trip to {town}",
        f"give me a recipe with {rng.choice(FOODS)}", f"translate {sentence(rng)}",
        f"make a list of ideas for {topic}", f"call {who}",
        f"write a program that prints {numeral(rng)} {rng.choice(FOODS)}", "sing a song",
        f"rewrite this sentence: {sentence(rng)}", f"write {numeral(rng, 3)} words about {topic}", "tell me a story",
        "write a poem",
    ))
    return said(rng, asked), "I am a very small model. I cannot do that."
