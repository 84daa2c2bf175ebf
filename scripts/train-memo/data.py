"""Conversations: what the user says, what memo should answer, which tokens matter, and how far back the answer lies.

A `Conversation` keeps the state that a perfect listener would keep (facts, lists) and writes turns until it is long
enough. Everything follows from the random generator it is given.
"""
import random

import facts as F
from tokenizer import IM_END, IM_START
from turns import W_ANSWER, W_USER, Fact, Turn, Turns
from words import Values

SYSTEM = ["You are memo, a small assistant that remembers.", "You are a helpful assistant.", "You are memo.",
          "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible.", "Be brief.",
          "You are a helpful AI assistant named memo.", "Remember what the user tells you.", "Answer in one sentence."]
PROFILES = {                              # what a turn is, and how many sentences a story has
    "dense": (dict(fact=30, ask=42, small=8, story=8, list=6, echo=3, unknown=4), (1, 3)),
    "quiet": (dict(fact=16, ask=24, small=12, story=40, list=4, echo=1, unknown=3), (2, 9)),
    "chat": (dict(fact=20, ask=20, small=45, story=6, list=3, echo=2, unknown=4), (1, 2)),
    "far": (dict(fact=12, ask=14, small=12, story=44, list=4, echo=1, unknown=3), (2, 7)),
    "exam": (dict(fact=26, ask=24, small=4, story=42, list=2, echo=0, unknown=0), (3, 9)),   # evaluation only
}


class Conversation(Turns):
    def __init__(self, rng: random.Random, held_out: bool, encode=None, profile: str | None = None):
        self.rng = rng
        self.values = Values(rng, held_out)
        self.encode = encode or (lambda text: [0] * (len(text) // 3))
        self.profile = profile or rng.choices(["dense", "quiet", "far", "chat"], [30, 22, 40, 8])[0]
        self.exam = self.profile == "exam"
        weights, self.sentences = PROFILES[self.profile]
        self.kinds, self.kind_weights = list(weights), list(weights.values())
        self.families = F.FAMILIES
        if self.exam or rng.random() < 0.4:      # many facts of few kinds: alike, so easily mistaken for one another
            self.families = rng.sample(F.FAMILIES, rng.randint(8, 14) if self.profile == "far" else rng.randint(5, 8))
        self.family_weights = [f.weight for f in self.families]
        self.length = 0                    # tokens to be written, if that is known
        self.us = rng.random() < 0.5
        self.lower = not self.exam and rng.random() < 0.07
        self.facts: dict[tuple, Fact] = {}
        self.lists: dict[str, list[str]] = {}
        self.list_at: dict[str, int] = {}
        self.last: Fact | None = None      # the fact that the turn before was about
        self.asked = [0] * 8               # questions so far, by target distance (evaluation)
        self.tokens: list[int] = []
        self.weights: list[int] = []
        self.turns: list[Turn] = []

    # -- writing ---------------------------------------------------------------------------------------------------
    def play(self, turns: int = 0, length: int = 0):
        """Writes turns until there are so many of them, or so many tokens."""
        self.length = length
        if not self.exam and self.rng.random() < 0.25:
            self.message("system", [(self.rng.choice(SYSTEM), W_USER)])
        if self.rng.random() < 0.35:
            self.add(Turn(*self.talk(("Hello!", "Hello! What would you like me to remember?"))))
        while len(self.turns) < turns or len(self.tokens) < length:
            self.add(self.next_turn())
        return self.turns

    def head(self, role: str) -> list:
        return [IM_START] + self.encode(role + "\n")

    def message(self, role: str, parts) -> tuple[int, int]:
        """Appends a message; returns the positions of its text and <|im_end|>."""
        weight = W_ANSWER if role == "assistant" else W_USER
        ids = self.head(role)
        start, w = len(self.tokens) + len(ids), [W_USER] * len(ids)
        for text, part_weight in parts:
            piece = self.encode(text)
            ids += piece
            w += [part_weight] * len(piece)
        tail = self.encode("\n")
        self.tokens += ids + [IM_END] + tail
        self.weights += w + [weight if parts and parts[-1][1] else 0] + [W_USER] * len(tail)
        return start, len(self.tokens) - len(tail)

    def add(self, turn: Turn):
        turn.user = self.style(turn.user)
        start, _ = self.message("user", [(turn.user, W_USER)])
        if turn.expect is not None:
            turn.distance += len(self.tokens)
        for fact in turn.touched:
            at = turn.user.rfind(fact.value)
            if at >= 0:
                fact.at = start + len(self.encode(turn.user[:at + len(fact.value)]))
        turn.span = self.message("assistant", turn.parts)
        for fact in turn.touched:
            if fact.value in turn.answer:
                fact.at = turn.span[1] - 2      # before the full stop
        self.turns.append(turn)

    def style(self, text: str) -> str:
        if self.us:
            text = self.spell(text)
        if text[-1] in ".?" and not self.exam and self.rng.random() < 0.08:
            text = text[:-1]
        if self.lower:
            text = text.lower().replace("what's", "whats")
        return text

    def spell(self, text: str) -> str:
        return text.replace("olour", "olor").replace("avourite", "avorite").replace("eighbour", "eighbor") if self.us else text

    def value(self, kind: str, avoid=()) -> str:
        value = self.values(kind, avoid)
        return value.lower() if self.lower else value

    # -- turns -----------------------------------------------------------------------------------------------------
    def next_turn(self) -> Turn:
        kind = self.rng.choices(self.kinds, self.kind_weights)[0]
        if self.exam and self.rng.random() < 0.4:      # only late questions can be far from their facts
            kind = "fact" if len(self.tokens) < 900 else "ask" if len(self.tokens) > 2800 else kind
        if self.profile == "far" and self.rng.random() < 0.7:          # facts first, questions last
            part = len(self.tokens) / max(1, self.length)
            kind = "fact" if part < 0.3 else "ask" if part > 0.6 else "story" if kind == "ask" else kind
        if self.last and self.rng.random() < 0.07:
            return self.short_update()
        last, self.last = self.last, None
        turn = getattr(self, "turn_" + kind)()
        return turn or self.turn_fact()

    # -- facts ----------------------------------------------------------------------------------------------------------
    def pick(self) -> tuple[F.Family, str]:
        family = self.rng.choices(self.families, self.family_weights)[0]
        keys = family.keys
        if keys == "":
            return family, ""
        if isinstance(keys, list):
            key = self.rng.choice(keys)
            return family, key.lower() if self.lower else key
        people = [k for (f, k) in self.facts if k and F_BY_ID[f].keys == keys]
        if people and self.rng.random() < 0.4:       # more about somebody known
            return family, self.rng.choice(people)
        return family, self.value(keys)

    def store(self, family: F.Family, key: str) -> tuple[Fact, Fact | None]:
        old = self.facts.get((family.id, key))
        avoid = [f.value for f in self.facts.values() if f.family is family] if family.who else [old.value] if old else []
        fact = Fact(family, key, self.value(family.value, avoid))
        self.facts[family.id, key] = fact
        return fact, old

    def choose(self) -> Fact | None:
        """The fact to ask for: near or far with equal care."""
        known = list(self.facts.values())
        if not known:
            return None
        now = len(self.tokens)
        if self.exam:
            return self.choose_for_exam(known, now + 18)
        if self.profile == "far":          # what was told first is asked last
            part = now / max(1, self.length)
            known = [f for f in known if (f.at < 0.35 * self.length) == (part > 0.6)] or known
            if part > 0.6:
                return self.rng.choice(known)
        r = self.rng.random()
        if r < 0.2:
            return self.rng.choice(known)
        goal = now * self.rng.random() if r < 0.7 else 30 * (max(now, 31) / 30) ** self.rng.random()
        return min(known, key=lambda f: abs(now - f.at - goal))

    def choose_for_exam(self, known, now):
        """A fact whose distance is just under the target that was asked for least."""
        for i in sorted(range(len(TARGETS)), key=lambda i: (self.asked[i], -i)):
            near = [f for f in known if 0.82 * TARGETS[i] <= now - f.at <= 0.985 * TARGETS[i]
                    and (f.at > 900 or TARGETS[i] == 3000)]          # the oldest facts are kept for the far questions
            if near:
                self.asked[i] += 1
                return self.rng.choice(near)
        return None


TARGETS = [120, 300, 1000, 2000, 3000]
F_BY_ID = {f.id: f for f in F.FAMILIES}
