"""Whatever a folder of images holds, it is data, left out with a count, or refused in one line: trees at random."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.problems.sources import open_source
from tests.image_folders import problem
from tests.test_image_files import IMAGES, RGB, UNREADABLE, everything, own_cache, refusal, save, streamed

__all__ = ("own_cache",)

NAMES = (b"00", b"a b", b"-x", b"[red]", b"%s", b"a\nb", b"\x1b[31m", b"caf\xe9", "\N{OWL}".encode(), b"x.png", b"UP")
NO_DATA = (".x.png", "._00.png", "Thumbs.db", "desktop.ini", "x.txt", "png", ".checkpoints/x.png", "@eaDir/x.png")
KINDS = {
    "image": tuple(IMAGES),
    "deeper": tuple(IMAGES),
    "link": tuple(IMAGES),
    "no data": NO_DATA,
    "unreadable": tuple(reason for reason in UNREADABLE if "too many" not in reason),  # that depends on the size
}
Item = tuple[str, str, bytes]
"""Its kind, which of that kind, and a name."""


def items(kind: str) -> st.SearchStrategy[Item]:
    return st.tuples(st.just(kind), st.sampled_from(KINDS[kind]), st.sampled_from(NAMES))


FOLDERS = st.lists(
    st.one_of(items("image"), items("image"), items("deeper"), items("link"), items("no data")), max_size=3
)
DAMAGED = st.lists(st.tuples(st.integers(0, 3), items("unreadable")), max_size=2)


def place(item: Item, folder: Path) -> tuple[str, np.ndarray | None] | None:
    """Lay it into a class folder. Returns its path and RGB pixels, or None for them, if it is named as an image."""
    kind, which, name = item
    if kind == "no data":
        (folder / which).parent.mkdir(exist_ok=True)
        Image.fromarray(RGB).save(folder / which, format="png")
        return None
    path = folder / os.fsdecode(name + os.path.splitext(which)[1].encode())
    if kind == "deeper":
        path = folder / "deeper.png" / path.name
        path.parent.mkdir(exist_ok=True)
    elif kind == "unreadable":
        path = path.with_name(path.name + "-.png")
    if os.path.lexists(path):
        return None
    if kind == "unreadable":
        UNREADABLE[which](path)
        return str(path), None
    image, pixels = IMAGES[which]
    if kind == "link":
        (folder.parents[1] / "elsewhere").mkdir(exist_ok=True)
        image.save(folder.parents[1] / "elsewhere" / which)
        path.symlink_to(folder.parents[1] / "elsewhere" / which)
    else:
        image.save(path)
    return str(path), pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[FOLDERS] * 4), DAMAGED, st.sampled_from(["stop", "skip"]))
def test_a_folder_is_its_images_or_refused_in_one_line(folders: tuple[list[Item], ...], damaged, unreadable: str):
    recipe = problem(classes=2, image_size=8, unreadable_images=unreadable)
    with TemporaryDirectory() as tree, pytest.MonkeyPatch.context() as patch:
        root = Path(tree) / "images"
        patch.setenv("PRUNING_BENCHMARK_CACHE", f"{tree}/cache")
        (root / "test").mkdir(parents=True)
        found: list[dict[str, np.ndarray | None]] = []
        for number, contents in enumerate(folders):
            folder = root / ("train", "val")[number // 2] / "ab"[number % 2]
            folder.mkdir(parents=True)
            there = [place(item, folder) for item in contents + [one for where, one in damaged if where == number]]
            for k in range(6):
                save(folder / f"base{k}.png", RGB)
                there.append((str(folder / f"base{k}.png"), RGB))
            found.append(dict(filter(None, there)))
        one, other, *tested = ({os.path.realpath(path) for path in part} for part in found)
        twice = bool(one & other) or bool((one | other) & set.union(*tested))
        expected = [found[k][path] for k in range(4) for path in sorted(found[k])]
        labels = [k % 2 for k in range(4) for path in found[k] if found[k][path] is not None]
        good = [pixels for pixels in expected if pixels is not None]
        if unreadable == "stop" and len(good) < len(expected):
            refusal(lambda: open_source(recipe, root))
            refusal(lambda: everything(streamed(recipe, root)))
            return
        source, data = open_source(recipe, root), streamed(recipe, root)
        assert np.array_equal(np.concatenate([source.training.images, source.test.images]), good)
        assert [*source.training.labels, *source.test.labels] == labels
        shown = [pixels.permute(0, 2, 3, 1).round() for pixels, _ in data.evaluation_batches("test")]
        assert np.array_equal(torch.cat(shown), good[len(source.training) :])
        assert sorted(everything(data)) == sorted(labels)
        for remarks in (source.remarks, data.remarks):
            assert any("skipped" in line for line in remarks) == (len(good) < len(expected))
            assert any("the same file" in line for line in remarks) == twice
            assert any("left out" in line for line in remarks) == any(
                item[0] == "no data" for f in folders for item in f
            )
