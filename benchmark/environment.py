"""What is taken from the environment that a command or job is started in: docs/reliability.md has the table.

Names are decided on here that any library may read. What one module reads alone, it decides on itself.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

from benchmark.errors import UserError

DROPPED = (
    # The recipe says what is computed in which precision, and whether it is compiled.
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"),
    # No file that is read may hold code (torch refuses to read any where both are set).
    *("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
    # They pin the threads of one process; those of all workers would share its cores.
    *("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"),
    # A warning of some library is no error.
    "PYTHONWARNINGS",
)
"""Variables that are left out, here and for every process that is started."""
DROPPED_OF_SLURM = ("SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
"""Beginnings of others. With SQUEUE_STATES=RUNNING what waits in the queue would be submitted again."""
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
PAIR = r"\s*\w+\s*:\s*(\[[^\[\]]*\]|[^\s,:\[\]]+)\s*"
PAIRS = re.compile(f"{PAIR}(,{PAIR})*,?")
NO_HOME = "/"
"""The home folder of a user without one, as in containers."""
SOCKET_ROOM = 60
"""Bytes of a temporary folder's path that leave room for the name of a socket in it, of 107 in all."""


def settle() -> None:
    """Make the process's environment what the suite has decided on. To be called before anything else is done."""
    for name in [name for name in os.environ if name in DROPPED or name.startswith(DROPPED_OF_SLURM)]:
        del os.environ[name]
    if any(action == "error" for action, *_ in warnings.filters):
        warnings.simplefilter("ignore")
        sys.warnoptions[:] = [option for option in sys.warnoptions if not option.startswith("error")]  # for children
    if not os.environ.get("HOME"):  # libraries and their processes look there and not into the list of users
        os.environ.pop("HOME", None)
        try:
            os.environ["HOME"] = str(Path.home())
        except RuntimeError:
            os.environ["HOME"] = NO_HOME
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal():  # matplotlib would stumble over it
        del os.environ["SOURCE_DATE_EPOCH"]
    temporary = os.environ.get("TMPDIR")
    if temporary is not None and (len(os.fsencode(temporary)) > SOCKET_ROOM or not os.path.isdir(temporary)):
        del os.environ["TMPDIR"]
        tempfile.tempdir = None  # to be found anew


def check_allocator() -> None:
    """Raises UserError for a setting of torch's allocator that is not name:value: torch would end the process."""
    for name in ALLOCATOR:
        value = os.environ.get(name, "")
        if value.strip() and not PAIRS.fullmatch(value):
            raise UserError(
                f"{name}={value}: write name:value, with commas between several, such as expandable_segments:True"
            )


def cache_folder() -> Path:
    """$PRUNING_BENCHMARK_CACHE, or pruning-benchmark/ in the user's cache folder. Raises UserError if none is known."""
    chosen = os.environ.get("PRUNING_BENCHMARK_CACHE")
    if chosen:
        return Path(chosen)
    common = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if common.is_absolute():  # others are to be ignored, says the standard
        return common / "pruning-benchmark"
    try:
        return Path.home() / ".cache" / "pruning-benchmark"
    except RuntimeError:
        raise UserError("this user has no home folder to keep decoded images in; set PRUNING_BENCHMARK_CACHE") from None


def check_text(texts: Iterable[str], option: str = "", advice: str = "") -> None:
    """Raises UserError for one that is no text: tables, reports, W&B and SLURM could not take its bytes.

    option: where they were given. advice: what to do, if that is known.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UserError(f"{option} {text!r}: this is not text in {encoding}{advice and f'; {advice}'}") from None
