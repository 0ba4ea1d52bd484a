"""Checks of a recipe: known names, and a network and numbers that fit the images.

Imports no torch, so that planning refuses a recipe that would fail in every cell.
"""

from __future__ import annotations

import importlib.util
import json
from bisect import bisect_right
from collections.abc import Iterable

from benchmark.cells import FUNCTION, Problem
from benchmark.errors import UserError
from benchmark.problems.examples import EXAMPLES, TASK_OF, WMT16, has_masks
from benchmark.problems.folder import EMBEDDED, check_dataset
from benchmark.problems.models import check_model
from benchmark.problems.scenes import CLASSES, SIZE
from benchmark.problems.sizes import prunable_weights
from benchmark.tasks import check_task

DIGITS_CLASSES = 10
FIXED: dict[str, dict[str, int]] = {
    "digits": {"image_size": 8, "channels": 1},
    "scenes": {"image_size": SIZE, "channels": 1, "classes": CLASSES},
    "voc": {"classes": 21},
    "cityscapes": {"classes": 19},
}
"""What a recipe has to say of a data set."""
OF_IMAGES = (
    "image_size", "channels", "crop_padding", "flip", "rotation", "resized_crop", "evaluation_size", "loader", "mean",
    "std", "unreadable_images",
)  # fmt: skip
"""Fields of a recipe that texts have no use for."""
TEXTS = ("python_docs", "text", "pairs", *WMT16)
"""Data sets that `sequence_length` cuts."""
MOST_WEIGHTS = 2_000_000_000
"""Of a network: with gradients, momentum and masks they take 32 GB."""
REDUCED = {
    **{"resnet10": 8, "resnet18": 8, "resnet50": 32, "unet": 8, "fcn_resnet50": 8, "deeplabv3_resnet50": 10_000},
    **dict.fromkeys(("vit", "transformer_lm", "transformer", "t5"), 0),
}
"""How many pixels a side become one before the last batch norm; 4 in most networks (vgg16 takes none as small), 0
without batch norm, and all where a batch norm follows pooling over the whole image."""


def refuse_unfit(problem: Problem) -> None:
    """Check what the recipe alone can tell, without its images. Raises UserError."""
    if problem.dataset not in EMBEDDED:
        check_dataset(problem)
    check_task(problem)
    check_learned(problem)
    check_model(problem)
    check_size(problem)
    check_batch(problem)
    check_fixed(problem)
    check_loader(problem)
    check_read(problem)
    if problem.crop_padding > problem.image_size and not problem.resized_crop:
        _refuse(problem, f"crop_padding {problem.crop_padding} is larger than image_size {problem.image_size}")
    check_installed(problem)


def check_learned(problem: Problem) -> None:
    """Whether the task can be learned from the data set. Raises UserError."""
    if FUNCTION.fullmatch(problem.dataset) or FUNCTION.fullmatch(problem.task):
        return
    fitting = TASK_OF.get(problem.dataset, "classification")
    if problem.task != fitting:
        _refuse(problem, f"task {problem.task} does not fit dataset {problem.dataset}, whose task is {fitting}")


def check_read(problem: Problem) -> None:
    """Refuse fields that nothing would read: the cells' identity would change, and their results not.

    Raises UserError. What is from outside may read any.
    """
    if problem.outside:
        return
    without = [] if problem.dataset in TEXTS else ["sequence_length"]
    if problem.dataset in EXAMPLES:
        without += OF_IMAGES
    elif problem.dataset in EMBEDDED:
        without += ["resized_crop", "unreadable_images"]
    where = f"for dataset {problem.dataset}"
    if problem.dataset not in WMT16 and not problem.weights:  # --weights DIR has one, whether it is used or not
        without.append("tokenizer")
    if problem.resized_crop and problem.rotation:
        _refuse(problem, "rotation means nothing with resized_crop: leave it out, or --set rotation=0")
    if not problem.resized_crop and "evaluation_size" not in without:
        without, where = [*without, "evaluation_size"], f"{where} without resized_crop"
    for key in without:
        default = Problem.model_fields[key].default
        if getattr(problem, key) != default:
            usual = json.dumps(default).strip('"')
            _refuse(problem, f"{key} means nothing {where}: leave it out, or --set {key}={usual}")


def check_size(problem: Problem) -> None:
    """Whether memory can hold the network. Raises UserError."""
    weights = prunable_weights(problem)
    if weights is not None and weights > MOST_WEIGHTS:
        widths = range(1, problem.width + 1)
        widest = bisect_right(
            widths, MOST_WEIGHTS, key=lambda width: prunable_weights(problem.model_copy(update={"width": width})) or 0
        )
        _refuse(
            problem,
            f"width {problem.width} gives model {problem.model} {weights} weights, more than {MOST_WEIGHTS}; "
            f"accepted: a width from 1 to {widest}",
        )


def check_batch(problem: Problem) -> None:
    """Whether batch norm has more than one value of each channel to normalise by. Raises UserError."""
    if problem.batch_size == 1 and problem.image_size <= REDUCED.get(problem.model, 4):
        _refuse(problem, f"batch_size 1 is too small for image_size {problem.image_size}: 2 or more are accepted")


def check_loader(problem: Problem) -> None:
    """Raises UserError if the recipe asks for NVIDIA DALI and that is not installed, or images are not streamed."""
    if problem.loader != "dali":
        return
    if not problem.resized_crop:
        _refuse(problem, "loader dali reads large images from disk: it needs resized_crop, as problem imagenet has it")
    if not has_dali():
        _refuse(
            problem,
            "loader dali needs NVIDIA DALI, which is not installed: pip install nvidia-dali-cuda130 "
            "(nvidia-dali-cuda120 where the driver is for CUDA 12), or --set loader=torch",
        )


def has_dali() -> bool:
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None


def check_installed(problem: Problem) -> None:
    """Raises UserError if the network needs transformers, and that is not installed."""
    if problem.model == "t5" and importlib.util.find_spec("transformers") is None:
        _refuse(problem, "model t5 needs transformers, which is not installed: pip install -e '.[hf]'")


def check_split(problem: Problem, members: Iterable[int], validates: bool = True) -> None:
    """Raises UserError if training or validation would have too few images.

    members: images of each class. validates: whether a part of them is held out.
    """
    training = validation = 0
    for count in members:
        held_out = round(problem.validation_fraction * count) if validates else 0
        left = count - held_out
        validation += held_out
        training += left - (round((1 - problem.training_share) * left) if problem.training_share < 1 else 0)
    if validates and not validation:
        _refuse(problem, f"validation_fraction {problem.validation_fraction:g} leaves no image to validate with")
    if training < min(2, problem.batch_size):  # one image alone has no batch statistics
        numbers = f"training_share {problem.training_share:g}, validation_fraction {problem.validation_fraction:g}"
        _refuse(
            problem, f"{numbers} and batch_size {problem.batch_size} leave no iteration to train in: {training} images"
        )


def check_fixed(problem: Problem) -> None:
    """Whether the recipe has what its data set has. Raises UserError."""
    for key, value in FIXED.get(problem.dataset, {}).items():
        if getattr(problem, key) != value:
            _refuse(problem, f"{key} {getattr(problem, key)} does not fit dataset {problem.dataset}, which has {value}")
    if problem.dataset == "digits" and problem.classes < DIGITS_CLASSES:
        _refuse(problem, f"classes {problem.classes} is below the {DIGITS_CLASSES} of dataset digits")
    for key in ("rotation", "resized_crop"):
        if has_masks(problem) and getattr(problem, key):
            _refuse(problem, f"{key} changes images and not their masks: dataset {problem.dataset} takes none")


def _refuse(problem: Problem, reason: str) -> None:
    raise UserError(f"problem {problem.name}: {reason}")
