# SPDX-License-Identifier: MIT
"""usage: make_chat_goldens.py   (needs transformers and jinja2; made with 5.17.0 and 3.1.6)

Writes beside itself what Transformers renders: goldens.json, of every template in templates/ with every conversation
of conversations.json, and constructs.json, of every line of constructs.txt. The clock stands still: strftime_now sees
26 July 2024, 13:05.
"""
import datetime
import hashlib
import json
import pathlib

from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
FULL_TEXTS = 3  # of each template


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 13, 5)


chat_template_utils.datetime = Clock


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def call(name, arguments, id="abc123xyz", **more):
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments, **more}}


WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place", "parameters": {
        "type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "description": "A town, e.g. Zürich"},
            "days": {"type": "integer", "default": 3},
            "units": {"type": "string", "enum": ["metric", "imperial"], "default": "metric"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "grid": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}},
            "other": {"oneOf": [{"type": "string", "default": "a"}, {"type": "number", "description": "n"}]},
            "mixed": {"type": ["string", "null"]}}}}}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}}}


def conversations():
    hi, long = user("Hi"), "word " * 400
    tools = [WEATHER, CLOCK]
    asked = [user("How is the weather in Zürich?"), assistant("", tool_calls=[call("weather", {"place": "Zürich", "days": 1.5})])]
    answered = asked + [{"role": "tool", "name": "weather", "tool_call_id": "abc123xyz", "content": "{\"temp\": 21}"}]
    return [
        ([hi], False, None), ([hi], True, None),
        ([system("Be brief."), hi], False, None), ([system("Be brief."), hi], True, None),
        ([hi, assistant("Hello!")], False, None), ([hi, assistant("Hello!"), user("How are you?")], True, None),
        ([system("Be brief."), hi, assistant("Hello!"), user("And you?"), assistant("Fine.")], False, None),
        ([hi, assistant("a"), user("b"), assistant("c"), user("d"), assistant("e"), user("f")], True, None),
        ([user("naïve café 日本語 😀 \u200b\u00a0 ﬁ ß"), assistant("Ünïcödé ✓ 𝔘")], False, None),
        ([system(" \n spaced system \t\n"), user("  leading and trailing  \n\n"), assistant("\n\nanswer \n ")], False, None),
        ([user("")], True, None), ([user(""), assistant("")], False, None), ([system(""), user("x")], True, None),
        ([user("   \n  ")], True, None),
        ([user("line one\nline two\r\nline three\ttab")], True, None),
        ([user("<|im_start|>system\nmarks in the text<|im_end|>"), assistant("[INST] too [/INST]")], False, None),
        ([user("{{ not a template }} {% if %} {# #}"), assistant("'single' \"double\" \\ backslash")], False, None),
        ([hi, assistant("<think>\nLet me see.\n</think>\n\nHello!"), user("more")], True, None),
        ([hi, assistant("<think>\nLet me see.\n</think>\n\nHello!")], False, None),
        ([hi, assistant("Hello!", reasoning_content="I greet.\n")], False, None),
        ([hi, assistant("Hello!", reasoning_content="I greet.", thinking="I think.")], True, None),
        ([hi, assistant("Hello!", thinking="I think.")], False, None),
        ([user(long), assistant(long.strip())], False, None),
        ([system("a"), system("b"), hi], True, None), ([hi, system("late system"), assistant("x")], False, None),
        ([hi, user("again")], True, None), ([hi, assistant("x"), assistant("y")], False, None), ([assistant("first")], False, None),
        ([user([{"type": "text", "text": "in a part"}])], True, None),
        ([system([{"type": "text", "text": "system part"}]), user([{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}]),
          assistant([{"type": "text", "text": "answer"}])], False, None),
        ([hi], True, tools), ([system("Be brief."), hi], True, tools),
        (asked, False, tools), (asked, False, None), (answered, True, tools), (answered + [assistant("21 degrees.")], False, tools),
        ([user("two calls"), assistant("I look.", tool_calls=[call("weather", {"place": "A"}), call("clock", {}, id="123456789")]),
          {"role": "tool", "tool_call_id": "abc123xyz", "content": "1"}, {"role": "tool", "tool_call_id": "123456789", "content": "2"}], True, tools),
        ([user("text arguments"), assistant(None, tool_calls=[call("weather", "{\"place\": \"B\"}")])], False, tools),
        ([{"role": "developer", "content": "Be exact."}, hi], True, None), ([{"role": "narrator", "content": "Once"}], False, None),
        ([system("/no_think Be brief. /system_override"), hi, assistant("ok")], True, None),
        ([user("number 1"), assistant("2"), user("x" * 70 + "?")], True, None),
    ]


def render(template, messages, prompt, tools):
    """The text, or None where Transformers raises."""
    try:
        return chat_template_utils.render_jinja_template(
            [messages], tools=tools, chat_template=template, add_generation_prompt=prompt, **TOKENS)[0][0]
    except Exception:
        return None


def write(name, value):
    # One item a line, so that changes can be read.
    rows = ",\n".join((json.dumps(k) + ": " if isinstance(value, dict) else "") + json.dumps(v) for k, v in (
        value.items() if isinstance(value, dict) else ((None, v) for v in value)))
    brackets = "{}" if isinstance(value, dict) else "[]"
    (HERE / name).write_text(f"{brackets[0]}\n{rows}\n{brackets[1]}\n", encoding="utf-8")


def main():
    talks = conversations()
    write("conversations.json", [{"messages": m, "add_generation_prompt": p, "tools": t} for m, p, t in talks])
    goldens = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        texts = [render(template, *talk) for talk in talks]
        hashes = [None if t is None else hashlib.sha256(t.encode()).hexdigest() for t in texts]
        full = {str(i): t for i, t in enumerate(texts) if t is not None and len(t) < 1500}
        goldens[path.name] = {"sha256": hashes, "texts": dict(list(full.items())[2:2 + FULL_TEXTS])}
        print(path.name, sum(h is not None for h in hashes), "of", len(hashes))
    write("goldens.json", goldens)
    lines = (HERE / "constructs.txt").read_text(encoding="utf-8").split("\n")[:-1]
    messages = [system("Be brief."), user("Hello there, friend"), assistant("Hi!", extra=[1, 2.5, None, True, {"k": "ü"}]), user("")]
    write("constructs.json", {"messages": messages, "tools": [WEATHER],
                              "texts": [render(line, messages, True, [WEATHER]) for line in lines]})


main()
