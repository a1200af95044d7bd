"""The part of `flywheel export` that hands a model over: which version, its lineage, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flywheel.commands.display import print_json, waiting
from flywheel.commands.shell import Shell
from flywheel.settings.choices import ModelForm

if TYPE_CHECKING:
    from flywheel.handover.card import Lineage
    from flywheel.operations import Json


def hand_over_model(shell: Shell, folder: Path, options: dict[str, Any]) -> None:
    """Write a version of this home for the server that `--format` names."""
    from flywheel.handover.folders import hand_over
    from flywheel.handover.sides import HandoverRefused

    form: ModelForm = options["form"] or "sentence-transformers"
    with shell.operations() as operations:
        models, decisions = operations.models(), operations.decisions()
    model = _chosen(models, options["version"])
    path = Path(str(model["path"]))
    if not path.is_dir():
        raise click.ClickException(f"{path} is not here: run this on the machine that has the home")
    lineage = _lineage(shell, path, model, decisions, options["licence"])
    try:
        with waiting(f"writing {model['version']} for {form}"):
            written = hand_over(path, folder, form, lineage, int8=options["int8"])
    except HandoverRefused as refused:
        raise click.ClickException(f"{model['version']} cannot be written for {form}: {refused}") from refused
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"{missing.name} is not installed; `pip install 'flywheel-search[onnx]'` brings it"
        ) from missing
    result = {
        "what": "model",
        "version": model["version"],
        "format": form,
        "folder": str(written.folder),
        "sides": list(written.sides),
        "distances": written.distances,
    }
    if options["as_json"]:
        print_json(result)
        return
    click.echo(f"{model['version']} for {form} in {written.folder}: {' and '.join(written.sides)}")
    for side, away in written.distances.items():
        click.echo(f"  {side}: unit vectors lie at most {away:.2g} from the model's")


def _chosen(models: list[Json], version: str | None) -> Json:
    """The version that was named, else the champion."""
    wanted = [
        model for model in models if (model["version"] == version if version else model.get("alias") == "champion")
    ]
    if wanted:
        return wanted[0]
    known = ", ".join(str(model["version"]) for model in models) or "none"
    raise click.ClickException(f"there is no version {version or 'champion'}; there are: {known}")


def _lineage(shell: Shell, path: Path, model: Json, decisions: list[Json], licence: str | None) -> Lineage:
    from flywheel.handover.card import Lineage, licence_of
    from flywheel.retrieval.registry import BASE, read_manifest

    version = str(model["version"])
    about = [said for said in decisions if said.get("candidate") == version]
    verdicts = [{"verdict": said["verdict"], "reasons": said["reasons"], "at": said.get("ts")} for said in about]
    named = licence or licence_of(shell.models / BASE)
    return Lineage(version, read_manifest(path), verdicts, named)
