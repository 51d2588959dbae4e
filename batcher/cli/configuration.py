"""What can be configured, from the settings model: a commented TOML file and a page of the manual."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from batcher.settings import ModelSettings, ProviderSettings, QualitySettings, RoutingSettings, Settings

EXAMPLES: Final = {
    "home": '"/srv/batcher"',
    "database_url": '"postgresql+psycopg://batcher@db/batcher"',
    "broker_url": '"redis://127.0.0.1:6379/0"',
    "env_file": '".env"',
    "metrics_port": "9464",
    "alert_urls": '["slack://TokenA/TokenB/TokenC/#channel", "mailto://user:password@example.org"]',
}
"""What the TOML file shows for settings whose default is no value that could be written down."""

TABLES: Final = """\
# Tiers: a queue and its models, first choice first; the others stand in when it is down.
# [tiers]
# economy = ["llama-3.3-70b@together", "gpt-4o-mini"]
# nightly = ["gpt-6-luna"]

# Endpoints: any OpenAI-compatible API, in three lines. Keys stay in environment variables.
# [providers.gpu1]
# base_url = "http://gpu1:8000/v1"
# api_key_env = ""

# Models: change a built-in one (your account's limits, your price) or add one. Dollars per million tokens.
# [models."llama-3.3-70b@together"]
# rpm = 3000
# tpm = 2_000_000

# [models.my-llama]
# provider = "gpu1"
# id = "meta-llama/Llama-3.3-70B-Instruct"
# input = 0.0
# output = 0.0
# context = 32768
# source = "our own machine"
# as_of = "2026-11-20"

# Alerts: rules that are off, or on although they are off by default.
# [alert_rules]
# cap_50 = false
# job_done = true

# Checking: how much is drawn, and who judges it (a tier or a model; that costs). See docs/quality.md
# [quality]
# sample = 0.02
# judge = "premium"

# Routing: the cheapest model whose measured accuracy clears the floor does the work. See docs/routing.md
# [routing]
# route = true
# learning_share = 0.05

# GGUF files for the local tier.
# [local_models]
# my-small-model = "/srv/models/my-small-model.gguf"
"""


def render_toml() -> str:
    """A ``batcher.toml`` in which every setting stands with its meaning and default, commented out."""
    lines = [
        "# Settings of batcher. Every line here shows a default, or an example where there is none.",
        "# Stronger than this file: options on the command line, then BATCHER_* environment variables.",
        "",
    ]
    for name, field in _scalar_fields():
        lines += [f"# {field.description}", f"# {name} = {EXAMPLES.get(name) or _toml(field)}", ""]
    return "\n".join(lines) + "\n" + TABLES


def render_reference() -> str:
    """``docs/configuration.md``."""
    rows = [
        (
            f"`{name}`",
            f"`BATCHER_{name.upper()}`",
            _type_name(field.annotation),
            _default(name, field),
            _about(field),
        )
        for name, field in _scalar_fields()
    ]
    header = ("setting", "variable", "type", "default", "meaning")
    parts = [
        _INTRODUCTION,
        markdown_table(header, rows),
        "## `[tiers]`\n\n" + _TIERS,
        "## `[providers.NAME]`\n\n" + _about_model(ProviderSettings),
        "## `[models.NAME]`\n\n" + _about_model(ModelSettings),
        "## `[quality]`\n\n" + _about_model(QualitySettings),
        "## `[routing]`\n\n" + _about_model(RoutingSettings),
        "## `[local_models]`\n\n" + _LOCAL_MODELS,
        "## `[alert_rules]`\n\n" + _ALERT_RULES,
        "## Keys\n\n" + _keys(),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def markdown_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


_INTRODUCTION: Final = """\
# Configuration

<!-- Written by `python -m batcher.cli.docs` from batcher/settings.py: change it there. -->

Nothing needs to be configured to start. What can be is read, strongest first, from options on the command
line, from `BATCHER_*` environment variables, from a TOML file, and from the defaults below. The TOML file is
the one that `--config` or `BATCHER_CONFIG` names, else `batcher.toml` in the working folder, else the one in
`BATCHER_HOME`. `batcher init` writes one with every setting in it, commented out."""

_TIERS: Final = """\
`NAME = ["model", ...]`, first choice first. A name that exists replaces the built-in tier, another one adds a
tier. The built-in ones are in [models.md](models.md)."""

_LOCAL_MODELS: Final = """\
`NAME = "path/to/model.gguf"`. The file serves the `local` tier, in front of the built-in models, with a
context of 4,096 tokens; a `[models.NAME]` table beside it says otherwise."""


_ALERT_RULES: Final = """\
`RULE = false` switches a rule off, `RULE = true` switches `job_done` on. The rules are in
[alerts.md](alerts.md)."""


def _keys() -> str:
    from batcher.catalog.models import load_catalog

    providers = load_catalog(Settings.model_construct()).providers.values()
    rows = [
        (provider.name, f"`{provider.api_key_env or 'none'}`", f"`{provider.base_url_env or 'none'}`")
        for provider in providers
    ]
    return (
        "Keys are never written into `batcher.toml`. They are read from the variables that the vendors' own"
        "\ntools use, or from the file that `env_file` names. The variable that moves an endpoint is stronger"
        "\nthan `base_url` in the file.\n\n" + markdown_table(("provider", "key", "moves the endpoint"), rows)
    )


def _scalar_fields() -> list[tuple[str, FieldInfo]]:
    """The settings that are one line each; the tables are shown by example."""
    return [
        (name, field)
        for name, field in Settings.model_fields.items()
        if _type_name(field.annotation) != "table"
    ]


def _about_model(model: type[BaseModel]) -> str:
    about = " ".join((model.__doc__ or "").replace("``", "`").split())
    rows = [
        (f"`{name}`", _type_name(field.annotation), _about(field))
        for name, field in model.model_fields.items()
    ]
    return about + "\n\n" + markdown_table(("field", "type", "meaning"), rows)


def _about(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _default(name: str, field: FieldInfo) -> str:
    if name == "home":
        return "`~/.local/share/batcher`, or under `XDG_DATA_HOME`"
    return "unset" if field.default is None else f"`{_toml(field)}`"


def _toml(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined or value is None:
        raise ValueError(f"{field.description!r} has no default that can be written: give it one in EXAMPLES")
    return json.dumps(value)


def _type_name(annotation: Any) -> str:
    """The type in a reader's words: ``text``, ``whole number``, ``path``, ``list of ...``, ``table``."""
    simple = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Path: "path",
        SecretStr: "text",
    }
    if annotation in simple:
        return simple[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        names = [_type_name(argument) for argument in arguments if argument is not type(None)]
        return "number" if set(names) == {"number", "text"} else " or ".join(names)
    if origin is typing.Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    return "table"
