"""What can be told and asked: families of facts as clauses, questions and answers.

A clause with '!' in front is a whole sentence. {K} is the key of a fact (whose, or which), {V} its value. Clauses begin in
lower case and have no full stop: `turns.py`
wraps them. The answer is also the assistant's repetition when it acknowledges a fact.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    id: str
    keys: object          # '' (one of a kind), a list of keys, or the name of a value maker for an open key
    value: str            # the value maker
    clauses: list         # ways to state it
    np: str               # "Do you remember {np}?"
    questions: list
    answer: str
    weight: float = 1.0
    who: tuple = ()       # a question by the value, and its answer


RELATIVES = """sister brother mother father cousin uncle aunt boss neighbour teacher friend son daughter wife husband doctor
landlord dentist grandmother grandfather coach nephew niece roommate""".split()
PETS = "dog cat parrot horse hamster goldfish rabbit turtle pony snake kitten puppy".split()
FAV_WORDS = "book song film movie game band flower animal word sport brand drink team season month".split()
NUMBERS = """phone number|locker code|room number|PIN|ticket number|bank code|house number|membership number|seat number|
order number|door code|bike code|student number|lucky number|license number|account number""".replace("\n", "").split("|")
NAMED = "boat project company team car school village street hotel band bakery shop farm club robot".split()

FAMILIES = [
    Family("name", "", "name", ["my name is {V}", "my name is {V}", "I am called {V}", "people call me {V}", "I am {V}",
                                "I'm {V}", "you can call me {V}"],
           "my name", ["what is my name", "what's my name", "who am I", "what am I called"], "your name is {V}", 1.6),
    Family("home", "", "place", ["I live in {V}", "my home is in {V}", "I have a flat in {V}", "I moved to {V}"],
           "where I live", ["where do I live", "where is my home", "in which town do I live"], "you live in {V}", 1.4),
    Family("born", "", "place", ["I was born in {V}", "I come from {V}", "my home town is {V}"],
           "where I was born", ["where was I born", "where do I come from"], "you were born in {V}"),
    Family("job", "", "job", ["I work as a {V}", "my job is {V}", "I am a {V}"], "my job",
           ["what is my job", "what do I do for a living", "what do I work as"], "you work as a {V}"),
    Family("age", "", "age", ["I am {V} years old", "my age is {V}", "I'm {V} years old", "I just turned {V}"], "my age",
           ["how old am I", "what is my age"], "you are {V} years old"),
    Family("birthday", "", "date", ["my birthday is on {V}", "I was born on {V}", "my birthday is {V}"], "my birthday",
           ["when is my birthday", "what is my birthday"], "your birthday is on {V}"),
    Family("holiday", "", "place", ["I am going to {V} on holiday", "my next trip is to {V}", "I want to visit {V}"],
           "where I am going on holiday", ["where am I going on holiday", "where is my next trip to"],
           "you are going to {V} on holiday"),
    Family("relative", RELATIVES, "name", ["my {K}'s name is {V}", "my {K} is called {V}", "I have a {K} called {V}",
                                          "my {K} is {V}", "the name of my {K} is {V}"],
           "my {K}'s name", ["what is my {K}'s name", "what's my {K}'s name", "what is my {K} called",
                             "what is the name of my {K}", "who is my {K}"], "your {K}'s name is {V}", 3,
           ("who is {V}", "that is your {K}")),
    Family("relhome", RELATIVES, "place", ["my {K} lives in {V}", "my {K} moved to {V}"], "where my {K} lives",
           ["where does my {K} live", "in which town does my {K} live"], "your {K} lives in {V}", 1.5),
    Family("relage", RELATIVES, "age", ["my {K} is {V} years old", "my {K} turned {V}"], "how old my {K} is",
           ["how old is my {K}"], "your {K} is {V} years old"),
    Family("reljob", RELATIVES, "job", ["my {K} works as a {V}", "my {K} is a {V}"], "what my {K} does",
           ["what does my {K} do", "what is my {K}'s job"], "your {K} works as a {V}"),
    Family("pet", PETS, "name", ["I have a {K} called {V}", "my {K} is called {V}", "my {K}'s name is {V}",
                                 "I have a {K} named {V}"],
           "my {K}'s name", ["what is my {K} called", "what is my {K}'s name", "what's my {K}'s name",
                             "what is the name of my {K}"], "your {K} is called {V}", 2, ("who is {V}", "that is your {K}")),
    Family("favcolour", "", "colour", ["my favourite colour is {V}", "the colour I like best is {V}"],
           "my favourite colour", ["what is my favourite colour", "what's my favourite colour",
                                   "which colour do I like best"], "your favourite colour is {V}", 1.5),
    Family("favfood", "", "food", ["my favourite food is {V}", "the food I like best is {V}", "I love to eat {V}"],
           "my favourite food", ["what is my favourite food", "which food do I like best", "what do I love to eat"],
           "your favourite food is {V}", 1.2),
    Family("fav", FAV_WORDS, "word", ["my favourite {K} is {V}", "the {K} I like best is {V}"], "my favourite {K}",
           ["what is my favourite {K}", "what's my favourite {K}", "which {K} do I like best"],
           "your favourite {K} is {V}", 1.5),
    Family("favplace", "", "place", ["my favourite city is {V}", "the city I like best is {V}"], "my favourite city",
           ["what is my favourite city", "which city do I like best"], "your favourite city is {V}"),
    Family("favnumber", "", "number", ["my favourite number is {V}"], "my favourite number",
           ["what is my favourite number", "what's my favourite number"], "your favourite number is {V}"),
    Family("mynumber", NUMBERS, "code", ["my {K} is {V}"], "my {K}",
           ["what is my {K}", "what's my {K}", "which is my {K}"], "your {K} is {V}", 2.5),
    Family("named", NAMED, "word", ["my {K} is called {V}", "the name of my {K} is {V}", "I named my {K} {V}"],
           "the name of my {K}", ["what is my {K} called", "what is the name of my {K}"], "your {K} is called {V}", 1.5),
    Family("home3", "name", "place", ["{K} lives in {V}", "{K} has moved to {V}", "the home of {K} is in {V}"],
           "where {K} lives", ["where does {K} live", "in which town does {K} live"], "{K} lives in {V}", 3,
           ("who lives in {V}", "that is {K}")),
    Family("job3", "name", "job", ["{K} works as a {V}", "{K} is a {V}"], "what {K} does",
           ["what does {K} do", "what is {K}'s job"], "{K} works as a {V}", 1.2),
    Family("age3", "name", "age", ["{K} is {V} years old", "{K} turned {V}"], "how old {K} is", ["how old is {K}"],
           "{K} is {V} years old", 1.2),
    Family("colour3", "name", "colour", ["{K}'s favourite colour is {V}", "{K} likes {V} best of all colours"],
           "{K}'s favourite colour", ["what is {K}'s favourite colour", "which colour does {K} like best"],
           "{K}'s favourite colour is {V}", 1.5),
    Family("food3", "name", "food", ["{K} likes to eat {V}", "{K}'s favourite food is {V}"], "what {K} likes to eat",
           ["what does {K} like to eat", "what is {K}'s favourite food"], "{K} likes to eat {V}"),
    Family("phone3", "name", "phone", ["{K}'s phone number is {V}", "you can call {K} at {V}"], "{K}'s phone number",
           ["what is {K}'s phone number", "how can I call {K}"], "{K}'s phone number is {V}", 1.5),
    Family("birth3", "name", "date", ["{K}'s birthday is on {V}"], "{K}'s birthday",
           ["when is {K}'s birthday", "what is {K}'s birthday"], "{K}'s birthday is on {V}"),
    Family("where", "thing", "container", ["the {K} is in {V}", "I put the {K} in {V}", "I left the {K} in {V}"],
           "where the {K} is", ["where is the {K}", "where did I put the {K}", "where did I leave the {K}"],
           "the {K} is in {V}", 2.5),
    Family("price", "thing", "number", ["the {K} costs {V} coins", "I paid {V} coins for the {K}"],
           "the price of the {K}", ["how much does the {K} cost", "what is the price of the {K}"],
           "the {K} costs {V} coins", 1.5),
    Family("code", "lock", "code", ["the code of the {K} is {V}", "the {K} opens with {V}", "the {K} code is {V}"],
           "the code of the {K}", ["what is the code of the {K}", "what is the {K} code", "how do I open the {K}"],
           "the code of the {K} is {V}", 2.5),
    Family("password", "service", "code", ["the password for {K} is {V}", "my {K} password is {V}"],
           "the password for {K}", ["what is the password for {K}", "what is my {K} password"],
           "the password for {K} is {V}", 1.5),
    Family("means", "word", "word", ["{K} means {V}", "the word {K} means {V}", "in my language {K} means {V}"],
           "what {K} means", ["what does {K} mean", "what is the meaning of {K}"], "{K} means {V}", 2.5),
    Family("capital", "place", "place", ["the capital of {K} is {V}"], "the capital of {K}",
           ["what is the capital of {K}"], "the capital of {K} is {V}", 1.2),
    Family("meeting", "name", "clock", ["the meeting with {K} is at {V}", "I have a meeting with {K} at {V}", "I meet {K} at {V}"],
           "when I meet {K}", ["when is the meeting with {K}", "when do I meet {K}"], "the meeting with {K} is at {V}", 1.2),
    Family("train", "place", "clock", ["the train to {K} leaves at {V}"], "when the train to {K} leaves",
           ["when does the train to {K} leave"], "the train to {K} leaves at {V}"),
    Family("theword", "", "word", ["!Remember the word {V}.", "the word is {V}", "the word to remember is {V}", "the secret word is {V}"], "the word",
           ["what is the word", "what was the word", "which word did I ask you to remember", "what is the secret word"],
           "the word is {V}", 1.2),
    Family("thecode", "", "code", ["!Remember the code {V}.", "the code is {V}", "the secret code is {V}"], "the code",
           ["what is the code", "what was the code", "what is the secret code", "which code did I ask you to remember"],
           "the code is {V}", 1.2),
    Family("thename", "", "name", ["!Remember the name {V}.", "the name is {V}"], "the name",
           ["what is the name", "what was the name", "which name did I ask you to remember"], "the name is {V}", 0.8),
    Family("thenumber", "", "number", ["!Remember the number {V}.", "the number is {V}", "the number to remember is {V}", "the secret number is {V}"],
           "the number", ["what is the number", "what was the number", "which number did I ask you to remember",
                          "what is the secret number"], "the number is {V}", 1.2),
]

LISTS = ["shopping list", "packing list", "guest list", "wish list", "reading list", "to-do list"]

# A statement's wrapper decides the acknowledgement, so that an answer follows from what was said, not from a dice roll.
STATE = [
    ("{C}.", "Got it, {a}."), ("{C}.", "Got it, {a}."), ("{C}.", "Got it, {a}."), ("{C}", "Got it, {a}."),
    ("{C}!", "Great, {a}."), ("By the way, {c}.", "Okay, {a}."), ("Please remember that {c}.", "I will remember that {a}."),
    ("Remember that {c}.", "I will remember that {a}."), ("Remember: {c}.", "I will remember that."),
    ("I want you to know that {c}.", "Thanks, now I know that."), ("Just so you know, {c}.", "Good to know."),
    ("Oh, and {c}.", "Okay."), ("Note that {c}.", "Noted."), ("{C}, please remember that.", "I will remember that."),
    ("Did I mention that {c}?", "Not yet. Now I know that {a}."), ("For later: {c}.", "Noted."),
    ("You should know that {c}.", "Good to know."), ("I forgot to say that {c}.", "No problem, I will remember it."),
    ("Hey, {c}.", "Okay, {a}."), ("Well, {c}.", "I see."), ("Also, {c}.", "Okay."), ("Important: {c}.", "Noted."),
    ("Hi, {c}.", "Hello! Got it, {a}."), ("Hello, {c}.", "Hello! Got it, {a}."),
]
UPDATE = [
    ("Actually, {c}.", "Okay, {a} now."), ("Correction: {c}.", "Thanks, {a} now."), ("I made a mistake: {c}.", "Okay, {a} now."),
    ("{C} now.", "Okay, {a} now."), ("Sorry, I was wrong, {c}.", "No problem, {a} now."),
    ("Something has changed: {c}.", "Thanks for the update."), ("From now on, {c}.", "Thanks for the update."),
    ("{C}, not {O}.", "Okay, {a} now."), ("No, {c}.", "Sorry, {a}."), ("Actually {c}, not {O}.", "Okay, {a} now."),
]
SHORT_UPDATE = [
    ("No, it is {V}.", "Sorry, {a}."), ("No, it's {V}.", "Sorry, {a}."), ("No, I meant {V}.", "Sorry, {a}."),
    ("Wait, it is {V}, not {O}.", "Okay, {a}."), ("Sorry, I meant {V}.", "Okay, {a}."), ("That is wrong, it is {V}.", "Sorry, {a}."),
    ("No, {V}.", "Sorry, {a}."), ("It is {V}, not {O}.", "Okay, {a}."),
]
ASK = ["{Q}?", "{Q}?", "{Q}?", "{Q}?", "{Q} again?", "Quick question: {q}?", "So, {q}?", "Hey, {q}?", "And {q}?", "{Q}",
       "Remind me: {q}?", "Please tell me, {q}?", "I forgot, {q}?", "Now, {q}?"]
ASK_NP = ["Do you remember {n}?", "Can you tell me {n}?", "Do you know {n}?", "Tell me {n}.", "Tell me {n}, please.",
          "Do you still know {n}?", "I forgot {n}.", "Please tell me {n}.",
          "And {n}?", "What about {n}?"]
UNKNOWN = "You have not told me that yet."
