"""A chat template is hostile input: it renders as transformers would, and ends when it does not."""

import time
from datetime import datetime

import pytest

from mycoswarm.base.errors import InputError, ModelError
from mycoswarm.stage.template import MAX_SOURCE_CHARS, ChatTemplate

MESSAGES = [{"role": "user", "content": "Hi"}]


def render(source: str, messages=MESSAGES, tools=()) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>", now=lambda: datetime(2026, 1, 2)).render(messages, tools)


def test_messages_tools_markers_and_the_date_are_there():
    source = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}|{{ m['content'] }}]{% endfor %}{{ eos_token }}"
        "{{ tools is none }}{{ add_generation_prompt }}{{ strftime_now('%d %b %Y') }}"
    )
    assert render(source) == "<s>[user|Hi]</s>TrueTrue02 Jan 2026"


def test_blocks_leave_no_lines_and_loops_can_be_left():
    source = (
        "{% for m in messages %}\n    {% if loop.index > 1 %}\n{% break %}\n{% endif %}\n{{ m.content }}\n{% endfor %}"
    )
    assert render(source, MESSAGES * 3) == "Hi\n"


def test_json_is_written_as_transformers_does_it():
    tools = [{"name": "ä<b>'", "x": [1, None, True]}]
    assert render("{{ tools | tojson }}", tools=tools) == '[{"name": "ä<b>\'", "x": [1, null, true]}]'
    assert render("{{ tools[0].name | tojson(ensure_ascii=True) }}", tools=tools) == '"\\u00e4<b>\'"'
    assert render("{{ tools | tojson(indent=2) }}", tools=[{"a": 1}]) == '[\n  {\n    "a": 1\n  }\n]'


def test_common_ways_of_writing_work():
    source = (
        "{%- macro show(x) -%}<{{ x | upper }}>{%- endmacro -%}"
        "{%- set ns = namespace(n=0, text='') -%}"
        "{%- for m in messages -%}{%- set ns.n = ns.n + 1 -%}"
        "{%- set ns.text = ns.text ~ m.content ~ ns.n -%}{%- endfor -%}"
        "{%- set block -%}b{{ ns.n }}{%- endset -%}"
        "{{ show(ns.text) }}{{ block }}{{ 'a,b'.split(',') | join('+') }}{{ '%s!' % 'x' }}{{ '{}?'.format('y') }}"
        "{{ messages[0].get('none', 'd') }}{{ 'aXa'.replace('X', '-') }}{{ 'q' * 3 }}{{ messages[::-1] | length }}"
        "{% generation %}g{% endgeneration %}"
    )
    assert render(source, MESSAGES * 2) == "<HI1HI2>b2a+bx!y?da-aqqq2g"


def test_a_template_may_refuse_messages_in_its_own_words():
    with pytest.raises(InputError, match="roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.code == "template_refused"


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}",
        "{{ nosuchfilter | nosuch }}",
        "{{ messages[0].content.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ nothing.at.all }}",
        "{% include 'passwd' %}",
        "{{ 1 // 0 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "x" * (MAX_SOURCE_CHARS + 1),
    ],
)
def test_a_broken_or_nosy_template_is_an_error_of_the_model(source):
    with pytest.raises(ModelError) as caught:
        render(source)
    assert caught.value.code == "bad_chat_template"


DEEP = "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
BOMBS = [
    "{{ 'x' * 10**10 }}",
    "{{ 10**10**10 }}",
    "{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
    "{% set b %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = b %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = 'yy'.join([ns.s, ns.s]) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '{}{}'.format(ns.s, ns.s) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    DEEP + "{{ ns.s }}",
    DEEP + "{{ ns.s | tojson }}",
    DEEP + "{{ ns.s | string }}",
    DEEP + "{{ ns.s ~ 1 }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ 'x' | indent(1000000000, true) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 1000000000) }}",
    "{{ lipsum(1000000) }}",
    "{{ range(1000000000) | list }}",
]


@pytest.mark.slow
@pytest.mark.parametrize("source", BOMBS)
def test_a_template_that_grows_is_stopped_before_it_costs_memory(source):
    began = time.monotonic()
    with pytest.raises(ModelError):
        render(source)
    assert time.monotonic() - began < 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = range(99999) | select('odd') | list %}{% endfor %}",
    ],
)
def test_endless_loops_are_stopped_by_the_deadline(source):
    with pytest.raises(ModelError, match="ran for more"):
        ChatTemplate(source, bos="", eos="", limit_s=0.3).render(MESSAGES, [])


def test_words_are_what_a_template_looks_for_not_what_it_writes():
    source = "{% if m.kind == 'function' and '</think>' in m['text'] %}<|im_end|>{{ '<tool_call>' }}{% endif %}"
    words = ChatTemplate(source, bos="", eos="").words
    assert {"kind", "function", "</think>", "text"} <= words
    assert not {"<|im_end|>", "<tool_call>"} & words
