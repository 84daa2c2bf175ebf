"""The values to be remembered: an open vocabulary of composed words and numbers.

Every maker takes a random generator and returns a string. `Values` calls the makers and keeps the two worlds
apart: a value whose CRC32 is a multiple of 8 is *held out*: training never sees it, evaluation sees no other.
"""
import random
import zlib
from collections import defaultdict

ONSETS = ["b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n", "p", "pr", "qu",
          "r", "s", "sh", "sk", "st", "t", "th", "tr", "v", "w", "x", "y", "z", "zh"]
VOWELS = ["a", "e", "i", "o", "u"] * 4 + ["ai", "au", "ea", "ee", "ia", "ie", "io", "oa", "oo", "ou"]
CODAS = ["", "", "", "", "b", "ck", "d", "l", "ld", "m", "n", "nd", "ng", "nt", "r", "rk", "rn", "rt", "s", "ss", "st",
         "t", "th", "x", "z"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ACCENTED = "áäéèíñóöőøúüűçšžł"

REAL_NAMES = """Ada Adam Agnes Alan Alex Alice Amir Amy Ana Andrew Anna Anton Arthur Aya Barbara Ben Bella Bob Boris Bruno
Carla Carlos Carol Charlie Chen Clara Claire Daniel David Diana Dmitri Dora Edgar Elena Eli Ella Emil Emily Emma Eric Eva
Felix Fiona Frank Frida George Gina Grace Greta Hana Hans Harry Helen Henry Hugo Ian Ida Igor Ingrid Irene Isaac Ivan Ivy
Jack James Jane Jean Jim Joan John Jonas Jose Julia Karen Karl Kate Kevin Kim Lara Laura Lena Leo Lily Linda Lisa Louis
Lucy Luis Luna Maria Mark Martin Mary Max Maya Mia Michael Mila Mohamed Nadia Nancy Nina Noah Nora Olga Oliver Omar Oscar
Otto Paul Pedro Peter Petra Philip Rachel Ravi Rita Robert Rosa Ruth Sally Sam Sara Simon Sofia Sonia Stella Steve Susan
Tara Ted Theo Thomas Tim Tina Tom Uma Vera Victor Wendy William Yuki Yusuf Zara Zoe""".split()
REAL_PLACES = """Amsterdam Athens Baku Bangkok Barcelona Basel Berlin Bern Bogota Boston Brussels Budapest Cairo Calgary
Cape\u00a0Town Chicago Cologne Cork Dakar Delhi Denver Dublin Edinburgh Florence Geneva Genoa Ghent Glasgow Hamburg Hanoi
Helsinki Istanbul Jakarta Kyoto Lagos Leeds Lima Lisbon London Lyon Madrid Manila Melbourne Milan Montreal Moscow Mumbai
Munich Nairobi Naples Nice Osaka Oslo Oxford Paris Perth Porto Prague Riga Rome Seattle Seoul Seville Shanghai Sofia
Stockholm Sydney Tallinn Tokyo Toronto Turin Utrecht Valencia Vienna Vilnius Warsaw York Zagreb Zurich""".split()
REAL_PLACES = [p.replace("\u00a0", " ") for p in REAL_PLACES]
COLOURS = """red blue green yellow purple orange pink brown black white grey teal turquoise violet crimson scarlet amber
olive indigo magenta beige ivory maroon lilac cyan gold silver bronze copper coral""".split()
SHADES = ["dark", "light", "pale", "deep", "bright", "dusty", "smoky", "warm", "cold", "soft", "royal", "misty"]
FOODS = """pizza pasta soup bread rice cheese apples pears plums figs beans lentils tofu salad curry noodles pancakes
dumplings honey olives carrots leeks onions garlic butter yoghurt cake cookies eggs fish chicken potatoes tomatoes kale
spinach mushrooms peas corn mangoes cherries grapes walnuts almonds tea coffee juice milk sugar salt flour pepper""".split()
GOODS = """soap candles batteries matches paper pencils glue tape string nails screws paint socks gloves scarf boots hat
torch map compass tent rope knife mug plates forks towels blankets pillows umbrella charger camera notebook""".split()
JOBS = """teacher doctor nurse baker farmer pilot sailor painter writer plumber carpenter librarian gardener driver cook
lawyer chemist tailor barber singer dancer judge clerk guard fisher miner mechanic translator""".split()
RANKS = ["junior", "senior", "chief", "deputy", "travelling", "retired", "night", "head", "trainee"]
ADJECTIVES = """red blue green yellow black white old new big small tall round heavy broken wooden iron golden silver dusty
shiny quiet secret spare narrow striped""".split()
OBJECTS = """key book lamp letter watch ring hammer clock bottle basket radio violin guitar wallet passport ticket map coin
mirror vase phone laptop kettle ladder bell mask photo bag coat hat scarf shovel brush statue""".split()
CONTAINERS = """drawer box cupboard cellar attic garage kitchen shed suitcase wardrobe basket chest cabinet barn closet
library garden office bathroom hallway trunk oven tower tent""".split()
LOCKS = "safe door gate locker garage vault suitcase chest cabinet office bike shed lift cellar box alarm".split()
MONTHS = "January February March April May June July August September October November December".split()
FLAVOURS = ["spicy", "fresh", "sweet", "baked", "dried", "salted", "smoked", "roast", "cold", "hot"]

SERVICES = """wifi email bank laptop phone computer server router library school office garage shop website account door
cloud radio club gym""".split()
REAL_WORDS = COLOURS + FOODS + GOODS + JOBS + OBJECTS + """apple river mountain sunshine tiger lion elephant rabbit eagle
penguin football tennis chess hockey swimming rose tulip daisy summer winter autumn spring water wine lemonade freedom
happiness sunset rainbow butterfly thunder castle dragon wizard galaxy planet ocean forest island harbour morning midnight
velvet marble crystal feather lantern compass anchor saffron cinnamon pineapple banana strawberry""".split()


def is_held_out(value: str) -> bool:
    return zlib.crc32(value.lower().encode()) % 8 == 0


def syllables(rng: random.Random, n: int) -> str:
    pick = rng.choice
    return "".join(pick(ONSETS) + pick(VOWELS) for _ in range(n)) + pick(CODAS)


def any_word(rng: random.Random) -> str:
    """A composed word; now and then letters in any order, or with accents, so that nothing is copied by knowing it."""
    r = rng.random()
    if r < 0.70:
        return syllables(rng, 1 if r < 0.12 else 2 if r < 0.52 else 3)
    if r < 0.80:
        return rng.choice(VOWELS) + syllables(rng, 1 + (r < 0.74))
    if r < 0.96:
        return "".join(rng.choice(LETTERS) for _ in range(rng.randint(3, 8)))
    return syllables(rng, 1) + rng.choice(ACCENTED) + rng.choice(CODAS)


def composed_name(rng): return any_word(rng).capitalize()


def name(rng): return rng.choice(REAL_NAMES) if rng.random() < 0.15 else composed_name(rng)


def place(rng):
    r = rng.random()
    if r < 0.15:
        return rng.choice(REAL_PLACES)
    w = composed_name(rng)
    if r < 0.55:
        return w
    if r < 0.70:
        return w + rng.choice(["ville", "burg", "ton", "stad", "field", "ford", "mouth", "grad"])
    if r < 0.85:
        return rng.choice(["Port", "New", "Saint", "Upper", "Mount", "Lake"]) + " " + w
    return w + " " + rng.choice(["Hill", "Bay", "Street", "Falls", "Bridge", "Island"])


def word(rng): return rng.choice(REAL_WORDS) if rng.random() < 0.12 else any_word(rng)


def service(rng): return rng.choice(SERVICES) if rng.random() < 0.4 else any_word(rng)


def number(rng):
    digits = rng.choice((2, 3, 3, 4, 4, 4, 5, 6))
    return str(rng.randint(10 ** (digits - 1), 10 ** digits - 1))


def phone(rng): return f"{rng.randint(100, 999)}-{rng.randint(0, 9999):04d}"


def code(rng):
    r = rng.random()
    if r < 0.6:
        return number(rng)
    if r < 0.8:
        return rng.choice(LETTERS).upper() + rng.choice(LETTERS).upper() + str(rng.randint(10, 9999))
    return f"{syllables(rng, 1)}-{rng.randint(10, 999)}"


def age(rng): return str(rng.randint(2, 99))


def clock(rng): return f"{rng.randint(1, 23)}:{rng.randint(0, 59):02d}"


def date(rng): return f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"


def colour(rng):
    r = rng.random()
    if r < 0.25:
        return rng.choice(COLOURS)
    return rng.choice(SHADES) + " " + rng.choice(COLOURS) if r < 0.7 else word(rng)


def food(rng):
    r = rng.random()
    if r < 0.25:
        return rng.choice(FOODS)
    return rng.choice(FLAVOURS) + " " + rng.choice(FOODS) if r < 0.6 else word(rng)


def job(rng):
    return rng.choice(JOBS) if rng.random() < 0.4 else rng.choice(RANKS) + " " + rng.choice(JOBS)


def item(rng):
    r = rng.random()
    return rng.choice(FOODS) if r < 0.3 else rng.choice(GOODS) if r < 0.6 else word(rng)


def thing(rng): return rng.choice(ADJECTIVES) + " " + rng.choice(OBJECTS)


def lock(rng): return rng.choice(ADJECTIVES) + " " + rng.choice(LOCKS)


def container(rng): return "the " + rng.choice(ADJECTIVES) + " " + rng.choice(CONTAINERS)


MAKERS = {f.__name__: f for f in (name, place, word, number, phone, code, age, clock, date, colour, food, job, item, thing,
                                  lock, container, service)}


class Values:
    """Draws values of one world, held out or not, and keeps what was drawn, by kind."""

    def __init__(self, rng: random.Random, held_out: bool):
        self.rng = rng
        self.held_out = held_out
        self.seen: dict[str, set] = defaultdict(set)

    def __call__(self, kind: str, avoid=()) -> str:
        make = MAKERS[kind]
        while True:
            value = make(self.rng)
            if is_held_out(value) == self.held_out and value not in avoid:
                self.seen[kind].add(value)
                return value
