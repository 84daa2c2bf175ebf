"""Small talk with fixed replies, and stories: made-up sentences that fill the distance between a fact and its question."""
import random

from words import ADJECTIVES, CONTAINERS, FOODS, JOBS, OBJECTS, Values

ABOUT = ("I am memo, a very small language model. I can chat a little, and I remember what you tell me: names, numbers, "
         "places, colours and lists.")
SMALL_TALK = [
    (["Hello!", "Hello", "Hi", "Hi!", "Hi there", "Hey", "hello", "hi", "Hey there!", "Hello there!", "Hi memo", "Hello memo!"],
     "Hello! What would you like me to remember?"),
    (["Good morning!", "Good morning", "good morning"], "Good morning! How can I help you?"),
    (["Good evening!", "Good evening", "good evening"], "Good evening! How can I help you?"),
    (["How are you?", "How are you", "how are you?", "How is it going?", "How are you doing?", "How do you feel?", "What's up?"],
     "I am fine, thank you. How are you?"),
    (["I am fine.", "I'm fine, thanks.", "I am well, thank you.", "Fine, thanks.", "I am good.", "Very well!", "Not bad."],
     "I am glad to hear that."),
    (["I am tired.", "I'm tired today.", "I am a bit sad.", "I feel sad.", "I am not well.", "I had a bad day."],
     "I am sorry to hear that. I hope it gets better soon."),
    (["I am happy.", "I am so happy today!", "I had a great day.", "What a lovely day!", "I feel great!"], "That is wonderful!"),
    (["Thank you.", "Thanks!", "Thank you very much!", "Thanks a lot.", "thanks", "thank you", "Great, thanks.", "Cheers!"],
     "You are welcome!"),
    (["Well done!", "Very good.", "Great!", "That is right.", "Correct!", "Yes, that is right.", "Good job!", "Perfect.", "Nice!",
      "Exactly.", "You are great!"], "Thank you!"),
    (["Who are you?", "What are you?", "Tell me about yourself.", "who are you?", "Introduce yourself.", "What is memo?",
      "What can you do?", "What can you do for me?", "How can you help me?", "Help", "help", "What is this?", "Can you help me?"],
     ABOUT),
    (["What is your name?", "What's your name?", "what is your name?", "Do you have a name?", "What are you called?"],
     "My name is memo."),
    (["Are you a human?", "Are you a person?", "Are you real?", "Are you a robot?", "Are you alive?"],
     "No, I am memo, a very small language model."),
    (["How old are you?", "Where do you live?", "When were you born?", "Where are you from?"],
     "I am only a small program, so I do not have an answer to that."),
    (["Do you like music?", "Do you like me?", "What do you like?", "What is your favourite colour?", "Do you have a dog?",
      "What do you think?"], "I like to remember things."),
    (["Can you remember things?", "Do you have a good memory?", "Will you remember this?", "Do you remember me?",
      "Can you remember something for me?", "Will you forget this?"], "Yes, I remember what you tell me in this conversation."),
    (["Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."],
     "Why did the model cross the road? It had seen the other side before, and it remembered."),
    (["Tell me a story.", "Write a poem.", "Write a story about a dragon.", "Sing a song.", "Write me a letter.",
      "Can you write code?", "Write a program.", "Translate this."], "I am too small for that, but I can remember things for you."),
    (["Goodbye!", "Bye", "Bye!", "See you later!", "Good night!", "Goodbye", "See you tomorrow.", "I have to go."],
     "Goodbye! I will keep your words in mind."),
    (["Okay.", "OK", "ok", "I see.", "Right.", "Fine.", "Yes.", "Yes", "No.", "No", "Hm.", "Well.", "Really?", "Sure."], "Okay."),
    (["Sorry.", "I am sorry.", "Oh, sorry!", "Excuse me."], "No problem."),
    (["Let us talk about something else.", "Let's change the subject.", "I am bored.", "Let us chat.", "Can we talk?"],
     "Sure. Tell me something about yourself."),
    (["Do you understand?", "Did you get that?", "Are you listening?", "Are you there?", "Did you hear me?"], "Yes, I am listening."),
    (["I have a question.", "May I ask you something?", "Can I ask you a question?", "Let me test you.", "Now a test."],
     "Please go ahead."),
    (["I love you.", "You are nice.", "You are funny.", "You are my friend."], "That is kind of you."),
    (["You are wrong.", "That is wrong.", "That is not right.", "You are stupid."], "I am sorry. Please tell me the right answer."),
    (["What time is it?", "What day is it?", "How is the weather?", "What is the weather like?", "What is the news?"],
     "I cannot know that, I only know what you tell me."),
]
WORLD = ["Why is the {o} {a}?", "How does a {o} work?", "Who invented the {o}?", "How far is it to the moon?", "What is {n} plus {m}?",
         "How do I make {f}?", "Can you explain how a {o} works?", "What is the best {o}?", "Who wrote the {a} {o}?",
         "How much is {n} times {m}?", "What is a {j}?", "Who was the first {j}?", "What is the meaning of life?",
         "Explain the {o} to me."]
WORLD_REPLY = "I cannot know that, I only know what you tell me."

PEOPLE = ["I", "We", "My friends", "The children", "An old man", "The {j}", "A {j}", "Two women", "Our guests", "The {j} and I",
          "Somebody", "Everybody", "A stranger", "{N}", "{N} and {M}"]
DID = ["found a {a} {o}", "bought {n} {a} {o}s", "looked for the {o} in the {c}", "cooked {f} with {g}", "walked to {P}",
       "talked about the {o} for {n} minutes", "sold the {a} {o}", "painted the {c} {a}", "cleaned the {c}", "drove to {P} and back",
       "ate too much {f}", "forgot the {o} in the {c}", "saw a {a} {o} near {P}", "waited {n} minutes for the {j}",
       "played cards with the {j}", "repaired the {o}", "carried {n} boxes into the {c}", "wrote a letter to {N}",
       "laughed about the {j}", "stayed in {P} for {n} days", "asked the {j} about the {o}", "met {N} in the {c}",
       "heard a noise in the {c}", "planted {n} trees behind the {c}", "called {N} twice", "dreamed of a {a} {c}"]
WHEN = ["Yesterday", "This morning", "Last week", "In the evening", "After lunch", "At night", "On Sunday", "Later", "Then", "Once",
        "In the end", "Two days ago", "Before dinner", "In spring", "Every summer"]
MORE = ["It rained all day.", "The weather was fine.", "It was very cold.", "It took a long time.", "Nobody knew why.", "It was fun.",
        "I will never forget it.", "That was a surprise.", "It was not easy.", "The {o} was {a}.", "The {c} was full of {o}s.",
        "There were {n} people.", "It cost {n} coins.", "The {j} was late.", "We had {f} and {g}.", "The wind was strong.",
        "I think the {o} is too {a}.", "What a day!", "It is a long story.", "The sun was shining on the {c}.",
        "The {a} {o} is worth {n} coins."]
OPENERS = [("Let me tell you a story.", "Thank you for the story."), ("Listen to this.", "That sounds interesting."),
           ("You will not believe it.", "That is hard to believe."), ("Something happened.", "That sounds exciting."),
           ("", "That sounds interesting."), ("", "That sounds interesting."), ("I was thinking.", "I see.")]


def some(rng: random.Random, options):
    """One of the options, the earlier the likelier (the first two by a factor of 1.6). Were all equally likely, every word of a
    story would be a tie, and which of two equal tokens is the likeliest would be a matter of rounding."""
    return options[int(len(options) * rng.random() ** 1.4)]


def fill(template: str, rng: random.Random, values: Values) -> str:
    """Replaces the marks of a story template; names and places are values of the same world as the facts."""
    out = template
    while "{" in out:
        i = out.index("{")
        mark = out[i + 1]
        out = out[:i] + filler(mark, rng, values) + out[i + 3:]
    return out.replace(" a old ", " an old ")


def filler(mark: str, rng: random.Random, values: Values) -> str:
    if mark == "a":
        return some(rng, ADJECTIVES)
    if mark == "o":
        return some(rng, OBJECTS)
    if mark == "c":
        return some(rng, CONTAINERS)
    if mark in "fg":
        return some(rng, FOODS)
    if mark == "j":
        return some(rng, JOBS)
    if mark in "nm":
        return some(rng, "253746918") + some(rng, ("", "5", "0", "2", "8", "4", "7", "3", "6", "9", "1"))
    return values("place" if mark == "P" else "name")


def story(rng: random.Random, values: Values, sentences: int) -> tuple[str, str]:
    """(user text, reply)"""
    opener, reply = some(rng, OPENERS)
    parts = [opener] if opener else []
    for _ in range(sentences):
        if rng.random() < 0.3:
            parts.append(fill(some(rng, MORE), rng, values))
            continue
        who, did = some(rng, PEOPLE), some(rng, DID)
        if rng.random() < 0.5:
            who = some(rng, WHEN) + " " + (who if who == "I" or who[0] == "{" else who[0].lower() + who[1:])
        parts.append(fill(f"{who} {did}.", rng, values))
    return " ".join(parts), reply


def small_talk(rng: random.Random, values: Values) -> tuple[str, str]:
    if rng.random() < 0.15:
        return fill(rng.choice(WORLD), rng, values), WORLD_REPLY
    said, reply = rng.choice(SMALL_TALK)
    return rng.choice(said), reply
