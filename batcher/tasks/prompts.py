"""Rendering of a task's prompt, once per job. Document text never passes through here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batcher.errors import TaskError
from batcher.tasks.loading import read_text


def render_prompt(prompt: Path | str, values: Mapping[str, Any], folder: Path | None) -> str:
    """A prompt with the parameters filled in, by a sandboxed Jinja that refuses undefined names.

    Args:
        prompt: the text itself, or the path of its file, relative to ``folder``.
        values: the parameters by name.
        folder: where the task's ``task.py`` lies.

    Raises:
        TaskError: if the file is missing, the template is wrong, or the result is empty.
    """
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if isinstance(prompt, Path):
        name = str(folder / prompt if folder else prompt)
        source = read_text(name)
    else:
        name, source = "The prompt", prompt
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    try:
        text = environment.from_string(source).render(dict(values)).strip()
    except TemplateSyntaxError as error:
        raise TaskError(f"{name}, line {error.lineno}: {error.message}") from error
    except Exception as error:  # a template runs a user's expressions, which may raise anything
        known = ", ".join(sorted(values)) or "none"
        raise TaskError(f"{name} cannot be rendered: {error} (the task's parameters: {known}).") from error
    if not text:
        raise TaskError(f"{name} is empty.")
    return text
