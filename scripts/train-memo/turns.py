"""The kinds of turns: telling, correcting, asking, lists, stories, small talk.

A mixin of `data.Conversation`, which keeps the facts; here they are put into words. An answer is a list of parts, each
with its weight in the loss.
"""
from dataclasses import dataclass, field

import facts as F
from talk import small_talk, story

W_USER, W_ANSWER, W_VALUE, W_FAR = 1, 10, 30, 60     # how much a token counts in the loss; far: from 1,200 tokens on


@dataclass
class Fact:
    family: F.Family
    key: str
    value: str
    at: int = 0            # token position just after the last mention of the value


@dataclass
class Turn:
    user: str
    parts: list            # the answer: (text, weight) in order
    expect: str | None = None
    kind: str = ""         # value maker of the expected value, or 'list'
    distance: int = 0      # tokens from the last mention of the value to the answer
    touched: list = field(default_factory=list)   # facts whose value this turn mentions
    choices: int = 0       # values of the same kind that the conversation holds: the chance level is one of them
    span: tuple = (0, 0)   # positions of the answer's tokens, <|im_end|> included

    @property
    def answer(self) -> str:
        return "".join(text for text, _ in self.parts)


def capital(text: str, template: str) -> str:
    """Sentence case, but a key or value keeps its own spelling."""
    return text if template[0] == "{" else text[0].upper() + text[1:]


def word_parts(before: str, word: str, weight: int) -> list:
    """`before` and `word` as parts; a space between them belongs to the word's first token."""
    head = before.rstrip(" ")
    return [(head, W_ANSWER), (before[len(head):] + word, weight)]


class Turns:
    def talk(self, pair) -> tuple[str, list]:
        return pair[0], [(pair[1], W_ANSWER)]

    def turn_small(self): return Turn(*self.talk(small_talk(self.rng, self.values)))

    def turn_story(self):
        return Turn(*self.talk(story(self.rng, self.values, self.rng.randint(*self.sentences))))

    def turn_echo(self):
        kind = self.rng.choice(["word", "name", "number", "code", "colour"])
        said = ", ".join(self.value(kind) for _ in range(self.rng.choice((1, 1, 2, 3, 4))))
        ask = self.rng.choice(["Say {V}.", "Repeat: {V}.", "Repeat after me: {V}.", "Please say {V}."])
        return Turn(ask.replace("{V}", said), [("Okay:", W_ANSWER), (" " + said, W_ANSWER), (".", W_ANSWER)])

    def clause(self, fact: Fact, plain: bool = False) -> tuple[str, str]:
        """A way to state the fact, as it is and in sentence case; plain: one that can be part of a sentence."""
        c = self.rng.choice([c for c in fact.family.clauses if not (plain and c[0] == "!")])
        text = c.replace("{K}", fact.key).replace("{V}", fact.value)
        return text, capital(text, c)

    def turn_fact(self) -> Turn:
        family, key = self.pick()
        fact, old = self.store(family, key)
        other = self.second_fact(family) if old is None and self.rng.random() < 0.12 else None
        if other:
            (c, cc), (c2, _) = self.clause(fact, plain=True), self.clause(other, plain=True)
            ack = ("Nice to meet you! " if "name" in (fact.family.id, other.family.id) else "") + "I will remember both."
            return Turn(f"{cc} and {c2}.", [(ack, W_ANSWER)], touched=[fact, other])
        c, cc = self.clause(fact)
        self.last = fact
        if c[0] == "!":
            return Turn(c[1:], self.acknowledge("I will remember that {a}.", fact), touched=[fact])
        wrapper, ack = self.rng.choice(F.UPDATE if old else F.STATE)
        user = wrapper.replace("{C}", cc).replace("{c}", c).replace("{O}", old.value if old else "")
        if fact.family.id == "name" and not old and "{a}" in ack:
            return Turn(user, [("Nice to meet you,", W_ANSWER), (" " + fact.value, W_ANSWER), ("!", W_ANSWER)], touched=[fact])
        return Turn(user, self.acknowledge(ack, fact), touched=[fact])

    def second_fact(self, family: F.Family) -> Fact | None:
        """A new fact of another family, for the same turn, if one is easily found."""
        other, key = self.pick()
        return None if other is family or (other.id, key) in self.facts else self.store(other, key)[0]

    def acknowledge(self, ack: str, fact: Fact) -> list:
        if "{a}" not in ack:
            return [(ack, W_ANSWER)]
        lead, tail = ack.split("{a}")
        return self.answer(fact, W_ANSWER, lead, tail)

    def short_update(self) -> Turn:
        """"No, it is …": about the fact that was just spoken of."""
        old = self.last
        fact, _ = self.store(old.family, old.key)
        while fact.value == old.value:
            fact, _ = self.store(old.family, old.key)
        wrapper, ack = self.rng.choice(F.SHORT_UPDATE)
        self.last = fact
        return Turn(wrapper.replace("{V}", fact.value).replace("{O}", old.value), self.acknowledge(ack, fact), touched=[fact])

    def question(self, fact: Fact) -> tuple[str, str]:
        """(text, lead of the answer)"""
        if self.rng.random() < 0.3:
            wrapper, inner = self.rng.choice(F.ASK_NP), fact.family.np
            if inner[0] in "wh" and wrapper.endswith(" {n}?") and wrapper[:3] in ("And", "Wha"):
                wrapper = "Tell me {n}."
        else:
            wrapper, inner = self.rng.choice(F.ASK), self.rng.choice(fact.family.questions)
        text = inner.replace("{K}", fact.key)
        user = wrapper.replace("{Q}", capital(text, inner)).replace("{q}", text).replace("{n}", text)
        return user, "Yes, " if wrapper.startswith("Do you") else ""

    def turn_ask(self) -> Turn | None:
        fact = self.choose()
        if fact is None:
            return self.turn_story() if self.exam else None
        self.last = fact
        if fact.family.who and not self.exam and self.rng.random() < 0.2:
            who, that = (text.replace("{V}", fact.value) for text in fact.family.who)
            self.last = None
            return Turn(capital(who, "w") + "?", word_parts(capital(that.split("{K}")[0], "t"), self.spell(fact.key), W_VALUE)
                        + [(".", W_ANSWER)], touched=[fact])
        weight = W_VALUE if len(self.tokens) - fact.at < 1200 else W_FAR
        user, lead = self.question(fact)
        if not self.exam:
            if self.rng.random() < 0.03:
                return self.wrong_answer(fact, user, lead)
            if self.rng.random() < 0.05:
                other = self.rng.choice(list(self.facts.values()))
                q = self.rng.choice(fact.family.questions)
                q2 = self.rng.choice(other.family.questions).replace("{K}", other.key)
                self.last = None
                return Turn(f"{capital(q.replace('{K}', fact.key), q)} and {q2}?",
                            self.answer(fact, weight) + self.answer(other, W_VALUE, " "), touched=[fact, other])
        return Turn(user, self.answer(fact, weight, lead), touched=[fact], **self.exam_notes(fact, fact.value, fact.family.value))

    def exam_notes(self, fact: Fact, expect: str, kind: str) -> dict:
        """`distance` starts as minus the last mention; `add` puts the position of the answer on top."""
        return dict(expect=expect, kind=kind, distance=-fact.at, choices=len(self.values.seen[kind]))

    def wrong_answer(self, fact: Fact, user: str, lead: str) -> Turn:
        """A slip in the history, not learned from: later answers must follow the user's words, not the slip."""
        slip = Fact(fact.family, fact.key, self.value(fact.family.value, [fact.value]))
        parts = [(text, 0) for text, _ in self.answer(slip, 0, lead)]
        return Turn(user, parts)

    def turn_unknown(self) -> Turn | None:
        family, key = self.pick()
        if (family.id, key) in self.facts:
            return None
        user, _ = self.question(Fact(family, key, ""))
        return Turn(user, [(F.UNKNOWN, W_ANSWER)])

    def turn_list(self) -> Turn:
        rng, which = self.rng, self.rng.choice(F.LISTS)
        kind = "name" if which == "guest list" else "word" if which == "reading list" else "item"
        items = self.lists.get(which)
        act = "new" if not items else rng.choices(["ask", "add", "new"], [60, 30, 8])[0]
        if act == "ask":
            said = ", ".join(items)
            user = rng.choice(["What is on my {K}?", "What's on my {K}?", "Tell me my {K}.", "Read me my {K}.", "My {K}, please?",
                               "Do you remember my {K}?", "Which things are on my {K}?"]).replace("{K}", which)
            if which == "shopping list" and rng.random() < 0.3:
                user = rng.choice(["What do I need to buy?", "What do I have to buy?"])
            at, self.list_at[which] = self.list_at[which], len(self.tokens) + 20
            return Turn(user, [(f"Your {which}:", W_ANSWER), (" " + said, W_VALUE), (".", W_ANSWER)], expect=said, kind="list",
                        distance=-at, choices=0)
        self.list_at[which] = len(self.tokens) + 20
        if act == "add" and len(items) < 7:
            item = self.value(kind, items)
            items.append(item)
            user = rng.choice(["Add {V} to my {K}.", "Put {V} on my {K}.", "Also put {V} on my {K}."])
            return Turn(user.replace("{V}", item).replace("{K}", which), [(f"Your {which} now has {item}.", W_ANSWER)])
        items = self.lists[which] = []
        for _ in range(rng.randint(2, 5)):
            items.append(self.value(kind, items))
        said = ", ".join(items)
        if not self.exam and rng.random() < 0.35:
            said = ", ".join(items[:-1]) + " and " + items[-1]
        if which == "shopping list" and rng.random() < 0.4:
            return Turn(rng.choice(["I need to buy {V}.", "I have to buy {V}."]).replace("{V}", said),
                        [("Okay, that is your shopping list.", W_ANSWER)])
        user = rng.choice(["My {K}: {V}.", "My {K} is {V}.", "Here is my {K}: {V}.", "Start a new {K}: {V}.", "Put {V} on a new {K}."])
        return Turn(user.replace("{V}", said).replace("{K}", which), [(f"Okay, that is your {which}.", W_ANSWER)])

    def answer(self, fact: Fact, weight: int, lead: str = "", tail: str = ".") -> list:
        """The answer clause as weighted parts, after `lead` and before `tail`."""
        template = self.spell(fact.family.answer)
        before, after = template.split("{V}")
        if not lead.strip() or lead.rstrip()[-1] in ".!?":
            before = capital(before, template)
        before = before.replace("{K}", self.spell(fact.key))
        return word_parts(lead + before, fact.value, weight) + [(after + tail, W_ANSWER)]
