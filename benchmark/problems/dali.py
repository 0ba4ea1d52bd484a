"""Large images decoded by NVIDIA DALI, on the training GPU where there is one: `--set loader=dali`.

Optional (`pip install nvidia-dali-cuda130`), for machines whose CPU cores decode more slowly than the GPU trains.
Order, crops and flips of the images are those of `StreamedData`. Pixels differ by rounding, which is why the loader
belongs to the recipe. Batches with images that DALI does not read are left to `StreamedData`, with a remark in the
record.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmark.cells import Problem, cut
from benchmark.errors import UserError
from benchmark.problems.batches import ImageBatch
from benchmark.problems.decode import Unreadable, centre_corner, reading, resized_shape
from benchmark.problems.streaming import EVALUATION_BATCH, Request, StreamedData, drawn

DEPTH = 2
"""Batches that DALI prepares ahead of the one in training."""
READERS = 4
"""Threads that read files and their headers."""
PLAIN = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}
"""Formats and modes that DALI and Pillow decode to the same pixels."""
DEVICE_TROUBLE = re.compile(r"CUDA (runtime|driver)|cudaError|out of memory", re.IGNORECASE)
"""In the messages of DALI errors that no image causes."""
ERROR_CHARACTERS = 200
END_OF_JPEG = b"\xff\xd9"


class Cut(NamedTuple):
    """What DALI is to make of an image.

    Args:
        file: its bytes, uint8.
        start: (top, left) of the part that is decoded, int32.
        shape: (height, width) of that part, int32.
        resized: (height, width) that the part is resized to, float32.
        kept: (top, left) of the square that is kept of it, int32.
        mirrored: 1 or 0, int32.
    """

    file: np.ndarray
    start: np.ndarray
    shape: np.ndarray
    resized: np.ndarray
    kept: np.ndarray
    mirrored: np.ndarray


class _Decoder:
    """A DALI pipeline, with the batches that it is to decode: it reads ahead.

    cut: what DALI is to make of an image, None for an image that it should not read.
    """

    def __init__(self, problem: Problem, device: torch.device, threads: int, cut: Callable[[Request], Cut | None]):
        self.problem, self.device, self._cut = problem, device, cut
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dali reader")
        self._ahead: Iterator[list[Request]] = iter(())
        self._pipeline = self._build(threads)

    def decoded(self, requests: list[list[Request]]) -> Iterator[Tensor]:
        """uint8 (b, height, width, channels) for each batch before the first that DALI should not read.

        Raises RuntimeError for a batch that it cannot read. After that, and if not all batches were taken, this decoder
        cannot be used again.
        """
        self._ahead = iter(requests)
        # DALI writes into memory that torch may still read. On torch's own stream the write waits for the read.
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        while True:
            try:
                (images,) = self._pipeline.run(stream)
            except StopIteration:
                break
            yield self._tensor(images, stream)
        self._pipeline.reset()

    def _next(self) -> list[list[np.ndarray]]:
        """The fields of the next batch's cuts, each a list over the images.

        Raises StopIteration at a batch that is empty or has an image that DALI should not read.
        """
        results = list(self._readers.map(self._cut, next(self._ahead)))
        cuts = [cut for cut in results if cut is not None]
        if not cuts or len(cuts) < len(results):
            raise StopIteration
        return [list(part) for part in zip(*cuts, strict=True)]

    def _build(self, threads: int) -> Any:
        from nvidia.dali import fn, pipeline_def, types

        gpu = self.device.type == "cuda"
        size, grey = self.problem.image_size, self.problem.channels == 1

        @pipeline_def
        def cut_and_resized() -> Any:
            encoded, start, shape, resized, kept, mirrored = fn.external_source(
                source=self._next, num_outputs=len(Cut._fields), device="cpu"
            )
            images = fn.decoders.image_slice(
                encoded,
                start=start,
                shape=shape,
                axes=[0, 1],
                device="mixed" if gpu else "cpu",
                output_type=types.GRAY if grey else types.RGB,
                adjust_orientation=False,  # Pillow does not rotate by camera orientation either
                jpeg_fancy_upsampling=True,  # interpolates colours as decoders on the CPU do
                affine=False,  # several workers would pin their threads to the same cores
            )
            images = fn.resize(images, size=resized, interp_type=types.INTERP_LINEAR, antialias=True)
            images = fn.slice(images, start=kept, shape=[size, size], axes=[0, 1])
            return fn.flip(images, horizontal=mirrored)

        pipeline = cut_and_resized(
            batch_size=max(self.problem.batch_size, *EVALUATION_BATCH.values()),
            num_threads=threads,
            device_id=_index(self.device) if gpu else None,
            prefetch_queue_depth=DEPTH,
        )
        pipeline.build()
        return pipeline

    def _tensor(self, images: Any, stream: Any) -> Tensor:
        """A copy, since DALI overwrites this batch with the next one."""
        from nvidia.dali.plugin.pytorch import feed_ndarray

        dense = images.as_tensor()
        copy = torch.empty(dense.shape(), dtype=torch.uint8, device="cpu" if stream is None else self.device)
        feed_ndarray(dense, copy, cuda_stream=stream)
        return copy


class DaliData(StreamedData):
    """A problem's images on disk like `StreamedData`, decoded and cropped by DALI. Raises UserError.

    threads: that decode on the CPU; None for as many as torch uses.
    """

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        folder: Path | None = None,
        shard: tuple[int, int] = (0, 1),
        threads: int | None = None,
    ):
        self._threads = threads or torch.get_num_threads()
        self._idle: _Decoder | None = None
        self._works = False
        self._left_over = ""
        super().__init__(problem, device, folder, shard, loaders=0)

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        left = (f"loader: DALI left batches to the default loader, {self._left_over}",) if self._left_over else ()
        return (*super().remarks, *left)

    def _raw(self, requests: list[list[Request]]) -> Iterator[ImageBatch]:
        done = 0
        while done < len(requests):
            trouble = ""
            try:
                for images in self._decoded(requests[done:]):
                    yield images, self._images.labels[[index for index, _, _ in requests[done]]]
                    done += 1
            except RuntimeError as error:
                if DEVICE_TROUBLE.search(str(error)):
                    raise
                trouble = cut(" ".join(str(error).split()), ERROR_CHARACTERS)
            if done < len(requests):  # the default loader reads this batch, or says what is wrong with it
                yield from super()._raw([requests[done]])
                self._judge(requests[done], trouble)
                done += 1

    def _judge(self, request: list[Request], trouble: str) -> None:
        """Note why the default loader read a batch. UserError if its images are whole and DALI never worked."""
        damaged = any(index in self._skipped for index, _, _ in request)
        if trouble and not damaged and not self._works:
            raise UserError(f"loader dali decodes nothing here ({trouble}); --set loader=torch needs no DALI")
        if request and not damaged:
            self._left_over = self._left_over or trouble or "with images that are no plain JPEG or PNG"

    def _decoded(self, requests: list[list[Request]]) -> Iterator[Tensor]:
        """What `_Decoder.decoded` gives, with a new decoder where the last one cannot be used again."""
        decoder, self._idle = self._idle or _Decoder(self.problem, self.device, self._threads, self._cut), None
        for images in decoder.decoded(requests):
            self._works = True
            yield images
        self._idle = decoder  # only here: one that was not emptied would begin the next epoch with old batches

    def _cut(self, request: Request) -> Cut | None:
        """None for an image that is left to the default loader."""
        from PIL import Image

        index, seed, place = request
        path = self._images.path(index)
        size = self.problem.image_size
        try:
            with reading(path):
                content = Path(path).read_bytes()
                with Image.open(io.BytesIO(content)) as header:
                    (width, height), kind = header.size, (str(header.format), header.mode)
                resized = (size, size) if place >= 0 else resized_shape(height, width, self._images.shorter)
        except Unreadable:
            return None
        # DALI would decode a crop of a truncated file if the crop lies above the truncation.
        if kind not in PLAIN or (kind[0] == "JPEG" and not content.endswith(END_OF_JPEG)):
            return None
        box, kept, mirrored = (0, 0, height, width), (0, 0), False
        if place >= 0:
            box, mirrored = drawn(height, width, seed, place, self.problem.flip)
        else:
            kept = centre_corner(*resized, size)
        start, shape, kept_at, flag = (np.array(part, np.int32) for part in (box[:2], box[2:], kept, mirrored))
        return Cut(np.frombuffer(content, np.uint8), start, shape, np.array(resized, np.float32), kept_at, flag)


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index
