"""``batcher init``: a commented batcher.toml to start from."""

from __future__ import annotations

from pathlib import Path

import click

from batcher.errors import ConfigurationError, UsageError


@click.command("init", help="Write a commented batcher.toml (default: into the working folder).")
@click.argument("path", type=click.Path(path_type=Path), default=Path("batcher.toml"))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(path: Path, force: bool) -> None:
    """Writes every setting with its meaning and default, commented out. PATH may be a folder."""
    from batcher.cli.configuration import render_toml

    target = path / "batcher.toml" if path.is_dir() else path
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(render_toml())
    except FileExistsError as error:
        raise UsageError(f"{target} is there already. Replace it with: batcher init --force") from error
    except OSError as error:
        raise ConfigurationError(
            f"Cannot write {target}: {error.strerror}. Name another place: batcher init PATH"
        ) from error
    click.echo(f"Wrote {target}. Every line in it is a comment until you change it")
