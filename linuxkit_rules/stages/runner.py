"""Runs one step in a folder that holds all it needs: what a worker of a remote executor does.

The folder has ``recipe.json`` (``stages/recipe.py``) and the blobs as ``blobs/sha256/<hex>``.  The step
leaves ``out/result.json`` (``remote/action.py``) and in ``out/blobs/sha256/`` the blobs of the result that
were not there before.  Nothing is asked of a network, nothing is read but that folder and this package.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from linuxkit_rules.digest import Descriptor
from linuxkit_rules.errors import StoreError
from linuxkit_rules.remote.action import BLOBS, OUT_BLOBS, RECIPE, RESULT, encode_result
from linuxkit_rules.stages.access import Access
from linuxkit_rules.stages.recipe import Recipe
from linuxkit_rules.stages.stage import Engine
from linuxkit_rules.store.blobs import Store


def run(folder: Path) -> None:
    """Run the step; raise what the stage raises, StrangeRecipeError, or StoreError for files that fail."""
    folder = folder.absolute()
    try:
        recipe = Recipe.parse((folder / RECIPE).read_bytes())
        (folder / OUT_BLOBS).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="store-", dir=folder) as scratch:
            store = _store(Path(scratch), folder / BLOBS)
            engine = Engine(store, access=Access(offline=True), limits=recipe.limits)
            result = engine.run(recipe.stage, recipe.inputs)
            _deliver(result.blobs, store, folder / OUT_BLOBS)
        (folder / RESULT).write_bytes(encode_result(recipe.key, result))
    except OSError as error:
        raise StoreError(f"cannot work here: {error.strerror}", where=str(folder)) from error


def _store(root: Path, blobs: Path) -> Store:
    """Give a store at ``root`` that has ``blobs`` by links; the clock stands, so that no use is noted."""
    place = root / "blobs" / "sha256"
    place.mkdir(parents=True)
    for blob in blobs.iterdir() if blobs.is_dir() else ():
        (place / blob.name).symlink_to(blob)
    return Store(root, clock=lambda: 0.0)


def _deliver(blobs: Iterable[Descriptor], store: Store, target: Path) -> None:
    """Move what the step has made; what it was given is there already."""
    for blob in dict.fromkeys(blobs):
        path = store.path(blob.digest)
        if not path.is_symlink():
            path.rename(target / blob.digest.hex)
