"""The words that the dialogues are made of: people, places, things, file names, and made-up names nobody has seen."""

# ruff: noqa: SIM905 - a sentence of words is easier to read and to extend than a list of quoted ones
from random import Random

NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Karin Leo Mia Nora Oscar Paula Quinn Rosa Sam Tom Ute "
    "Vera Walter Xenia Yara Zoe Alice Bob Chen Dina Elif Farid Gina Hans Iris Jack Kim Laura Marco Nina Omar Peter "
    "Rita Sara Tina Umar Victor Wanda Yusuf Amir Bella Cora Daniel Eva Frank George Helen Ivan Julia Karl Lena Max "
    "Noah Olga Paul Ruth Stefan Theo Ursula Viktor William Lucy Mary John Jane Maria Ahmed Aisha Kofi Priya Ravi "
    "Mei Hiro Yuki Lars Ingrid"
).split()
PLACES = (
    "Rome,Paris,London,Berlin,Madrid,Oslo,Tokyo,New York,Vienna,Cairo,Lima,Sydney,Toronto,Delhi,Beijing,Moscow,"
    "Lisbon,Athens,Dublin,Prague,Warsaw,Zurich,Geneva,Milan,Naples,Hamburg,Munich,Lyon,Boston,Chicago,Denver,"
    "Seattle,Austin,San Francisco,Los Angeles,Mexico City,Buenos Aires,Nairobi,Lagos,Cape Town,Dubai,Mumbai,"
    "Singapore,Hong Kong,Seoul,Osaka,Auckland,Honolulu,Helsinki,Stockholm,Copenhagen,Amsterdam,Brussels,Budapest,"
    "Istanbul,Jakarta,Manila,Hanoi,Bangkok,Europe/Rome,Europe/London,Europe/Berlin,America/New_York,"
    "America/Chicago,Asia/Tokyo,Asia/Kolkata,Australia/Sydney,Africa/Cairo,UTC,Iceland,Kenya,Japan,Peru,Texas"
).split(",")
THINGS = (
    "book box lamp key cup ball hat coat bag phone letter map pen chair table clock plate spoon knife bottle "
    "basket ladder rope blanket pillow candle mirror radio camera ticket coin ring shoe glove scarf umbrella "
    "bucket hammer"
).split()
COLOURS = "red blue green yellow black white brown grey pink orange purple".split()
ROOMS = (
    "kitchen garden garage bedroom hall cellar attic office bathroom library workshop barn cupboard drawer car "
    "shed school shop station park"
).split()
ANIMALS = "cat dog horse cow duck goat sheep rabbit mouse bird fox bear pig hen owl frog snake wolf deer fish".split()
FOODS = (
    "apples pears plums eggs cakes lemons oranges carrots potatoes tomatoes cherries onions nuts grapes beans "
    "melons biscuits sweets olives peaches"
).split()
QUALITIES = "tall old fast strong young happy big small quick brave clever tired hungry quiet rich warm".split()
VERBS_PAST = "found lost bought sold painted cleaned opened closed broke hid washed carried dropped kept".split()
STEMS = (
    "notes report plan todo list readme config settings data budget letter draft summary journal recipe invoice "
    "log backup index main test results schedule diary ideas agenda minutes orders stock prices contacts hello "
    "story poem travel garden house music photos work shopping meeting project team sales energy weather status "
    "news"
).split()
EXTENSIONS = "txt md txt md txt csv json toml yaml py log ini cfg html conf sh".split()
FOLDERS = (
    "docs home data notes work src etc tmp logs files private projects archive reports backup shared old new".split()
)
MACHINES = (
    "pi pi5 nuc mac mini desktop laptop server attic studio garage office gpu box tower shelf kitchen node".split()
)
STATES = "ready busy offline starting idle asleep ok".split()
TOPICS = (
    "France,Germany,the moon,the sun,black holes,the Roman Empire,football,chess,opera,volcanoes,dinosaurs,"
    "the ocean,quantum physics,photosynthesis,the stock market,coffee,wine,bread,whales,bees,Shakespeare,Napoleon,"
    "Einstein,Mozart,the Beatles,Brazil,China,Mount Everest,the Nile,DNA,vaccines,gravity,electricity,airplanes,"
    "bridges,castles,the weather,politics,elections,tax law,medicine,yoga,cooking,jazz,painting,history,biology,"
    "chemistry,Java,Rust,JavaScript,Linux,Windows,databases,philosophy,religion,love,happiness,dreams,time travel,"
    "robots,the universe"
).split(",")
_STARTS = "b c d f g h j k l m n p r s t v w z br cr dr fl gr kl pl pr sk sl sp st str th tr ch sh qu".split()
_VOWELS = "a e i o u a e i o ai ea ee ie ou oa".split()
_ENDS = "n r s t l m k d p x nd rt st ll ck ng th sh".split() + [""] * 8
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def invent(rng: Random) -> str:
    """A word that no list holds, so that the model has to copy its pieces: "brandeel", "skoth"."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    return "".join(rng.choice(_STARTS) + rng.choice(_VOWELS) + rng.choice(_ENDS) for _ in range(syllables))


def person(rng: Random) -> str:
    """A first name, one in three of them made up."""
    return invent(rng).capitalize() if rng.random() < 0.35 else rng.choice(NAMES)


def place(rng: Random) -> str:
    """A city, country or time zone, one in three of them made up."""
    return invent(rng).capitalize() if rng.random() < 0.35 else rng.choice(PLACES)


def stem(rng: Random) -> str:
    """One part of a file's or a machine's name."""
    return invent(rng) if rng.random() < 0.35 else rng.choice(STEMS)


def path(rng: Random) -> str:
    """A file's path of one to three parts, such as "docs/plan_2024.md"."""
    name = stem(rng)
    if rng.random() < 0.3:
        name += rng.choice("_-") + (stem(rng) if rng.random() < 0.6 else str(rng.randrange(1, 3000)))
    if rng.random() < 0.08:
        name = name.upper() if rng.random() < 0.5 else name.capitalize()
    if rng.random() < 0.93:
        name += "." + rng.choice(EXTENSIONS)
    depth = rng.choice((0, 0, 0, 1, 1, 2))
    folders = [rng.choice(FOLDERS) if rng.random() < 0.8 else invent(rng) for _ in range(depth)]
    root = rng.choice(("", "", "", "", "/", "~/", "./")) if folders else rng.choice(("", "", "", "", "", "/", "./"))
    return root + "/".join([*folders, name])


def machine(rng: Random) -> str:
    """A node's name, such as "attic-2" or "skoth"."""
    name = invent(rng) if rng.random() < 0.35 else rng.choice(MACHINES)
    return name + (rng.choice(("-", "", "_")) + str(rng.randrange(1, 30)) if rng.random() < 0.3 else "")


def spelled(number: int) -> str:
    """0..99 in words: "forty-two"."""
    if number < 20:
        return _SMALL[number]
    tens = _TENS[number // 10 - 2]
    return tens if number % 10 == 0 else f"{tens}-{_SMALL[number % 10]}"


def numeral(rng: Random, digits_most: int = 5) -> str:
    """A whole number of 1 to `digits_most` digits, short ones more often; never zero."""
    digits = min(rng.choice((1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6)), digits_most)
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def sentence(rng: Random) -> str:
    """A plain sentence about nothing in particular, for files and for free text."""
    who, thing, colour = person(rng), rng.choice(THINGS), rng.choice(COLOURS)
    return rng.choice(
        (
            f"The {thing} is {colour}.",
            f"{who} {rng.choice(VERBS_PAST)} the {colour} {thing}.",
            f"Call {who} at {rng.randrange(1, 24)}:{rng.randrange(60):02d}.",
            f"Buy {numeral(rng, 2)} {rng.choice(FOODS)}.",
            f"The {rng.choice(ANIMALS)} is in the {rng.choice(ROOMS)}.",
            f"{who} lives in {place(rng)}.",
            f"Meeting with {who} on {rng.choice(('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday'))}.",
            f"The password of the {thing} is {invent(rng)}{numeral(rng, 4)}.",
            f"{who} and {person(rng)} like the {thing}.",
            f"Do not forget the {thing}.",
            f"Version {rng.randrange(10)}.{rng.randrange(30)} is out.",
            f"We have {numeral(rng, 3)} {rng.choice(FOODS)} in the {rng.choice(ROOMS)}.",
        )
    )
