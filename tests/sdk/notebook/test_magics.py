"""`%load_ext onceq`, `%llm` and `%%llm` in a real kernel; what is wrong is one sentence, without a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from onceq._template import MissingNames, fill
from onceq.notebook.magics import read, request
from onceq.notebook.question import let_questions_pass
from tests.sdk.notebook.kernel import Output, html, run

QUICK = "[[sim tokens=12 tps=0 ttft_ms=0]]"
LOAD = "%load_ext onceq"


def test_a_cell_asks_fills_in_variables_and_binds_the_job(home: Path) -> None:
    _, asked, bound = run(
        home,
        f"{LOAD}\ntopic = 'queues'",
        f"%%llm --model openai/gpt-4o-mini --as about --max-tokens 50\nWrite about {{topic}}. {QUICK}",
        "print(about.status, about.usage.output_tokens)\n"
        f"same = plain.submit('Write about queues. {QUICK}', max_tokens=50)\n"
        "print(same.disposition, same.id == about.id)\n"
        "import pandas\nprint(pandas.Series(['a']).onceq.map.__name__)",
    )
    assert "12 tokens" in html(asked)
    assert printed(bound) == "succeeded 12\nreplayed True\nmap\n"


def test_a_line_asks_with_the_model_named_last(home: Path) -> None:
    [*_, asked, bound] = run(
        home,
        LOAD,
        f"%llm --model openai/gpt-4o-mini First. {QUICK}",
        f"%llm What's $5 in a 'queue'? {QUICK}",
        f"same = plain.submit(\"What's $5 in a 'queue'? {QUICK}\")\nprint(same.id == answer.id)",
    )
    assert "openai/gpt-4o-mini" in html(asked)
    assert printed(bound) == "True\n"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%%llm\nHello", "name a model once"),
        ("%%llm --model openai/gpt-4o-mini\nHello {nobody}", "uses nobody, which this notebook has not defined"),
        ("%%llm --model nowhere/at-all\nHello", "unknown_model"),
        ("%%llm --modle x\nHello", "unrecognized arguments"),
        ("%%llm --model openai/gpt-4o-mini\nNo. [[sim fault=400]]", "provider_bad_request"),
    ],
)
def test_what_is_wrong_is_one_sentence(home: Path, cell: str, says: str) -> None:
    _, outputs = run(home, LOAD, cell, allow_errors=True)
    told = [output["text"] for output in outputs if output["output_type"] == "stream"]
    assert len(told) == 1
    assert says in told[0]
    assert "Traceback" not in told[0]


def test_a_model_that_was_refused_does_not_stay(home: Path) -> None:
    [*_, bound] = run(
        home,
        LOAD,
        f"%llm --model openai/gpt-4o-mini First. {QUICK}",
        f"%llm --model no/such Second. {QUICK}",
        f"%llm --as third Third. {QUICK}",
        "%llm --model anthropic/claude-haiku-4-5 No. [[sim fault=400]]",
        f"%llm Fourth. {QUICK}",
        "print(third.model, answer.model)",
        allow_errors=True,
    )
    assert printed(bound) == "openai/gpt-4o-mini anthropic/claude-haiku-4-5\n"


def test_a_line_that_ends_with_a_question_mark_is_asked_and_not_taken_for_a_wish_for_help(home: Path) -> None:
    [*_, asked, bound] = run(
        home,
        f"{LOAD}\n%reload_ext onceq",
        f"%llm --model openai/gpt-4o-mini {QUICK} Why's the sky blue?",
        f'same = plain.submit("{QUICK} Why\'s the sky blue?")\nprint(same.id == answer.id)',
    )
    assert "12 tokens" in html(asked)
    assert printed(bound) == "True\n"


@pytest.fixture
def shell() -> Any:
    shell = InteractiveShell()
    let_questions_pass(shell)
    return shell


LLM, HELP = "get_ipython().run_line_magic('llm', {})\n", "get_ipython().run_line_magic('pinfo', {})\n"


@pytest.mark.parametrize(
    ("cell", "run_as"),
    [
        ("%llm Why?", LLM.format("'Why?'")),
        ("if 1:\n    %llm -m a/b What is x??", "if 1:\n    " + LLM.format("'-m a/b What is x??'")),
        ("x = 1\nx?\n%llm Don't?\n", "x = 1\n" + HELP.format("'x'") + LLM.format('"Don\'t?"')),
        ("%llm?", HELP.format("'%llm'")),
        ("?%llm", HELP.format("'%llm'")),
        ("%llmx Why?", HELP.format("'Why'")),
        ("said = '''\n%llm Why?\n'''", "said = '''\n%llm Why?\n'''\n"),
        ("%%llm\n%llm Why?", "get_ipython().run_cell_magic('llm', '', '%llm Why?\\n')\n"),
    ],
)
def test_lines_of_ours_alone_are_read_otherwise(shell: Any, cell: str, run_as: str) -> None:
    assert shell.transform_cell(cell) == run_as


def printed(outputs: list[Output]) -> str:
    return "".join(output.get("text", "") for output in outputs)


def test_options_end_where_the_prompt_begins() -> None:
    options, prompt = read("--fresh -m a/b --system 'Be brief.' --param seed=7 --param tier=flex Don't --panic", None)
    assert (options.model, prompt) == ("a/b", "Don't --panic")
    assert request(options) == {"system": "Be brief.", "params": {"seed": 7, "tier": "flex"}, "fresh": True}


@pytest.mark.parametrize(
    ("line", "cell"), [("", ""), ("--model", "x"), ("words", "x"), ("--max-tokens ten", "x"), ("--as 1st", "x")]
)
def test_a_line_that_makes_no_sense_is_a_usage_error(line: str, cell: str) -> None:
    with pytest.raises(UsageError):
        read(line, cell)


@pytest.mark.parametrize("pair", ["bad", "=3"])
def test_a_parameter_without_a_name_or_a_value_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=rf"--param: '{pair}' is no NAME=JSON"):
        read(f"--param top_p=0.3 --param {pair} x", None)


@pytest.mark.parametrize("name", ["1st", "class", "a.b"])
def test_a_name_that_no_variable_can_have_is_said_to_be_one(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--as: '{name}' is no name for a variable"):
        read(f"--as {name} x", None)


def test_a_template_fills_names_and_leaves_other_braces() -> None:
    assert fill('{a} {{b}} {"json": 1} {a.b}', {"a": 1, "b": 2}) == '1 {b} {"json": 1} {a.b}'
    with pytest.raises(MissingNames) as missing:
        fill("{x} {y} {x}", {})
    assert missing.value.names == ["x", "y"]
