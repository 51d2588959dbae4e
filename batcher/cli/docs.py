"""Writes the generated parts of the manual: ``python -m batcher.cli.docs [FOLDER]``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

BEGIN: Final = "<!-- begin: written by `python -m batcher.cli.docs` from batcher/catalog/models.toml -->"
END: Final = "<!-- end -->"


def render_commands() -> str:
    """``cli.md``."""
    from batcher.cli import reference

    return reference.render_commands()


def render_configuration() -> str:
    """``configuration.md``."""
    from batcher.cli.configuration import render_reference

    return render_reference()


def render_models(page: str) -> str:
    """``models.md`` with the table of built-in models between its two marks renewed.

    Raises:
        ValueError: if ``page`` lacks the marks.
    """
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"models.md needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{_tiers_and_models()}\n\n{END}{after}"


def _tiers_and_models() -> str:
    from batcher.catalog.models import load_catalog
    from batcher.cli.configuration import markdown_table
    from batcher.settings import Settings

    catalog = load_catalog(Settings.model_construct())
    tiers = [(tier, ", ".join(names)) for tier, names in catalog.tiers.items()]
    models = [
        (
            model.name,
            model.provider,
            _dollars(model.prices.input_nusd),
            _dollars(model.prices.output_nusd),
            f"{model.context:,}",
            f"{model.practical_context:,}",
            ", ".join(sorted(model.abilities)),
            model.as_of,
        )
        for model in catalog.models.values()
    ]
    header = ("model", "provider", "in $/M", "out $/M", "context", "splits at", "abilities", "as of")
    return "\n\n".join(
        [markdown_table(("tier", "models, first choice first"), tiers), markdown_table(header, models)]
    )


def _dollars(nusd: int) -> str:
    from batcher.money import nusd_to_usd

    return format(nusd_to_usd(nusd).normalize(), "f")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("docs"))
def main(folder: Path) -> None:
    """Renew the generated pages in FOLDER."""
    models = folder / "models.md"
    pages = {
        folder / "cli.md": render_commands(),
        folder / "configuration.md": render_configuration(),
        models: render_models(models.read_text("utf-8")),
    }
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        click.echo(f"Wrote {path}")


if __name__ == "__main__":
    main()
