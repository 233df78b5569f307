"""`%load_ext onceq`: the magics `%llm` (a line) and `%%llm` (a cell). Prompt in, live answer out, the job in a name."""

from __future__ import annotations

import json
import re
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib import import_module
from importlib.util import find_spec
from keyword import iskeyword
from typing import Any, Final, NoReturn

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from onceq import _flows
from onceq._client import Client
from onceq._template import MissingNames, fill
from onceq.errors import ConfigurationError, OnceqError
from onceq.notebook.live import show
from onceq.notebook.question import let_questions_pass
from onceq.wire import Job

DEFAULT_NAME: Final = "answer"
_OPTION: Final = re.compile(
    r"""\s*(?:--fresh|(?:--[a-z][a-z-]*|-m)(?:=|\s+)(?:"[^"]*"|'[^']*'|\S+))(?=\s|$)""",
)


def register(shell: Any) -> None:
    """Adds `%llm` and `%%llm` to an IPython shell, and `.onceq` to the frames of pandas where that is installed."""
    if find_spec("pandas") is not None:
        import_module("onceq.accessor")
    magics = LlmMagics(shell)

    def llm(line: str, cell: str | None = None) -> None:
        magics.ask(line, cell)

    llm.__doc__ = _parser().format_help()
    # or IPython would fill `$name` and `{expression}` into the line, before we see it
    shell.register_magic_function(no_var_expand(llm), "line_cell", "llm")
    let_questions_pass(shell)


class LlmMagics:
    """The magics of one kernel: one client for its life, made when it is first needed, and the model named last."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._client: Client | None = None
        self._model: str | None = None

    def ask(self, line: str, cell: str | None) -> None:
        """Ask what the line or the cell says, show the answer live, and bind the job to a name.

        Raises UsageError, which IPython shows as one line, for all that has no answer; KeyboardInterrupt detaches.
        """
        try:
            options, prompt = read(line, cell)
            asked = fill(prompt, self._shell.user_ns)
            job = self._shown(asked, options)
            self._shell.user_ns[options.name] = job
            _flows.succeeded(job)
        except (OnceqError, MissingNames) as exc:
            raise UsageError(f"llm: {exc}") from None

    def _shown(self, prompt: str, options: Namespace) -> Job:
        model = self._model_of(options)
        stream = self._connected().stream(prompt, model=model, **request(options))
        try:
            return show(stream)
        finally:
            if stream.job_id is not None:  # a model that the service refused is not for the next cells
                self._model = model

    def _connected(self) -> Client:
        self._client = self._client or Client()
        return self._client

    def _model_of(self, options: Namespace) -> str:
        model = self._model if options.model is None else options.model
        if model is None:
            raise ConfigurationError("name a model once: `%%llm --model <provider>/<model>`; it stays for the next.")
        return model


def read(line: str, cell: str | None) -> tuple[Namespace, str]:
    """Options, and the prompt: the cell, or what follows the options on the line. Raises UsageError."""
    end = _end_of_options(line)
    options, rest = _options(line[:end]), line[end:].strip()
    if rest.startswith("--") or (cell is not None and rest):
        raise UsageError(f"llm: {rest.split()[0]!r} is no option, or lacks its value; `%llm?` lists them.")
    prompt = rest if cell is None else cell.strip()
    if not prompt:
        raise UsageError("llm: there is no prompt: write it below `%%llm`, or after `%llm`.")
    return options, prompt


def request(options: Namespace) -> dict[str, Any]:
    """What `Client.stream` takes beside prompt and model; what is not given stays out."""
    given = {
        "system": options.system,
        "idempotency_key": options.key,
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "params": dict(options.param) or None,
        "fresh": options.fresh or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _end_of_options(line: str) -> int:
    """A prompt may hold apostrophes, so only what stands before it is split as a shell would."""
    end = 0
    while option := _OPTION.match(line, end):
        end = option.end()
    return end


def _options(words: str) -> Namespace:
    return _parser().parse_args(shlex.split(words))


def _parser() -> ArgumentParser:
    parser = _Parser(prog="%%llm", add_help=False, description="Ask a model; the answer is shown while it is written.")
    parser.add_argument("--model", "-m", help="<provider>/<model> or an alias; stays for the next cells")
    parser.add_argument("--as", dest="name", default=DEFAULT_NAME, type=_name, help="bind the job to this name")
    parser.add_argument("--system", help="the system prompt")
    parser.add_argument("--key", help="an idempotency key: the same key is the same job")
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--param", action="append", default=[], type=_pair, metavar="NAME=JSON", help="one more")
    parser.add_argument("--fresh", action="store_true", help="a new sample, and a new bill")
    return parser


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"llm: {message}; `%llm?` lists the options.")


def _name(text: str) -> str:
    if not text.isidentifier() or iskeyword(text):
        raise ArgumentTypeError(f"{text!r} is no name for a variable")
    return text


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError(f"{text!r} is no NAME=JSON, like top_p=0.3")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
