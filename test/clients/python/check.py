"""Python's official client and instructor against a running server: python3 check.py http://127.0.0.1:PORT/v1"""
import sys
from typing import Literal

import instructor
from openai import NotFoundError, OpenAI
from pydantic import BaseModel

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
FACTS = "My name is Anna and I live in Vilnius."


def responses() -> None:
    one = client.responses.create(model="memo", input=FACTS, temperature=0)
    two = client.responses.create(model="memo", input="Where do I live?", previous_response_id=one.id, temperature=0)
    assert "Vilnius" in two.output_text, two.output_text
    assert two.usage.input_tokens_details.cached_tokens >= one.usage.total_tokens - 1
    with client.responses.stream(model="memo", input=FACTS, temperature=0) as stream:
        numbers = [event.sequence_number for event in stream]
        assert numbers == list(range(len(numbers)))
        assert stream.get_final_response().output_text == one.output_text
    assert client.responses.retrieve(one.id).output_text == one.output_text
    assert len(client.responses.input_items.list(two.id).data) == 3
    client.responses.delete(two.id)
    try:
        client.responses.retrieve(two.id)
        raise AssertionError("a deleted response is there")
    except NotFoundError as e:
        assert e.code == "response_not_found"


def conversations() -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": FACTS}], metadata={"topic": "places"})
    client.responses.create(model="memo", conversation=conversation.id, temperature=0)
    two = client.responses.create(model="memo", conversation=conversation.id, input="Where do I live?", temperature=0)
    assert "Vilnius" in two.output_text, two.output_text
    assert two.conversation.id == conversation.id
    items = list(client.conversations.items.list(conversation.id, limit=1))
    assert [i.role for i in items] == ["assistant", "user", "assistant", "user"], items
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    assert client.conversations.items.list(conversation.id, order="asc").data[-1].id == items[1].id
    assert client.conversations.update(conversation.id, metadata={"topic": "x"}).metadata == {"topic": "x"}
    assert client.conversations.delete(conversation.id).deleted
    try:
        client.conversations.retrieve(conversation.id)
        raise AssertionError("a deleted conversation is there")
    except NotFoundError as e:
        assert e.code == "conversation_not_found"


def chat() -> None:
    plain = client.chat.completions.create(model="memo", messages=[{"role": "user", "content": FACTS}], temperature=0)
    pieces = client.chat.completions.create(
        model="memo", messages=[{"role": "user", "content": FACTS}], temperature=0, stream=True
    )
    text = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
    assert text == plain.choices[0].message.content


def embeddings() -> None:
    one, two = client.embeddings.create(model="memo", input=[FACTS, FACTS]).data
    assert one.embedding == two.embedding
    assert abs(sum(x * x for x in one.embedding) - 1) < 1e-4


class Weather(BaseModel):
    city: Literal["Rome", "Oslo"]
    warm: bool


def with_instructor() -> None:
    modes = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]
    for mode in modes:
        structured = instructor.from_openai(client, mode=mode)
        answer = structured.chat.completions.create(
            model="memo",
            response_model=Weather,
            max_retries=0,
            temperature=0,
            max_tokens=200,
            messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        )
        assert isinstance(answer, Weather)


for check in [responses, conversations, chat, embeddings, with_instructor]:
    check()
    print(f"ok {check.__name__}")
