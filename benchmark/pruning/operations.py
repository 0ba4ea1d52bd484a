"""Counting multiply-accumulates (MACs) while a network runs, by the tensors that are multiplied.

Functions of torch are seen as the network calls them, so that attention and products without a layer count too. What
matters is which weight is multiplied, not which module does it. torch's FlopCounterMode counts the same, but not by
weight, and it imports torch's compiler, which would cost every worker over a second.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from benchmark.errors import UserError


class CountMacs(TorchFunctionMode):
    """Within this context, `counts` adds up MACs by name in `weights`, and under None those of all other products.

    weights: those to tell apart. parameters: all of the network. Each has a storage of its own.
    """

    def __init__(self, weights: Mapping[str, Tensor], parameters: Iterable[Tensor]):
        super().__init__()
        self.counts: Counter[str | None] = Counter()
        self._names = {_storage(weight): name for name, weight in weights.items()}
        self._parameters = {_storage(parameter) for parameter in parameters}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in OPENED:
            with self:
                return _opened(func)(*args, **kwargs)
        name = getattr(func, "__name__", "")
        tensors = list(_tensors((*args, *_in_order(kwargs)))) if name in SEEN else []
        output = func(*args, **kwargs)
        if name in CHAINS:
            with self:
                functools.reduce(torch.matmul, _tensors((*args, kwargs.get("tensors"))))
        if name == "einsum" and len(tensors) > 2:
            with self:
                _contract(args[0], tensors)
        elif name in COUNTS:
            weights = (self._names.get(_storage(tensor)) for tensor in tensors)
            self.counts[next(filter(None, weights), None)] += COUNTS[name](output, tensors, args)
        elif name in RECURRENT:
            self._count_recurrent(*tensors)
        return output

    def _count_recurrent(self, inputs: Tensor, *others: Tensor) -> None:
        """Every weight of a recurrent layer is multiplied at every position; its other arguments are no parameters."""
        positions = inputs.numel() // inputs.shape[-1]
        for tensor in others:
            if tensor.dim() == 2 and _storage(tensor) in self._parameters:
                self.counts[self._names.get(_storage(tensor))] += tensor.numel() * positions


def _contract(equation: str, tensors: Sequence[Tensor]) -> None:
    """An einsum from left to right, two operands at a time, as torch does it without the library opt_einsum."""
    terms, result = _terms(equation)
    left, product = terms[0], tensors[0]
    for place, (term, tensor) in enumerate(zip(terms[1:], tensors[1:], strict=True), 1):
        later = "".join([*terms[place + 1 :], result])
        kept = [letter for letter in dict.fromkeys((left + term).replace(".", "")) if letter in later]
        out = "".join(["..." if "..." in left + term else "", *kept])
        product, left = torch.einsum(f"{left},{term}->{out}", product, tensor), out


def _terms(equation: str) -> tuple[list[str], str]:
    """Of an einsum, what each operand and the result are indexed by."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    letters = terms.replace(",", "").replace(".", "")
    if not arrow:
        result = "".join(letter for letter in letters if letters.count(letter) == 1)
        result = f"...{result}" if "..." in terms else result
    return terms.split(","), result


def _storage(tensor: Tensor) -> int:
    """The same for a tensor and its views, such as its transpose."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        where = "within torch.func.vmap, or tensors without a storage"
        raise UserError(f"MACs cannot be counted of a network that multiplies {where}") from None


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among the arguments of a function, those in lists included."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


KEYWORDS = (
    "input", "input1", "input2", "query", "key", "value", "mat", "mat1", "mat2", "batch1", "batch2", "vec", "a", "b",
    "weight", "other", "tensor", "bias",
)  # fmt: skip
"""Names of the tensors that functions of torch multiply, in the order in which each takes them."""


def _in_order(named: Mapping[str, Any]) -> list[Any]:
    """Arguments with a keyword in the order that they would have without."""
    known = [key for key in KEYWORDS if key in named]
    return [named[key] for key in (*known, *(key for key in named if key not in known))]


OPENED = (functional.multi_head_attention_forward, torch.functional.einsum)
"""Functions of torch in Python that multiply. They hand themselves to the mode, and it would not see what they call."""


def _opened(function: FunctionType) -> FunctionType:
    """A copy of one of these that runs instead."""
    blind = {name: lambda *_: False for name in function.__globals__ if name.startswith("has_torch_function")}
    names = {**function.__globals__, **blind}
    opened = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


Count = Callable[[Tensor, Sequence[Tensor], Sequence[Any]], int]
"""MACs of a function from its output, the tensors among its arguments, and its arguments without a keyword."""


def _weighted(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Layers whose tensors are (inputs, weight, ...), the outputs being the first dimension of the weight."""
    return output.numel() * tensors[1][0].numel()


def _transposed(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Transposed convolutions, the inputs being the first dimension of the weight."""
    return tensors[0].numel() * tensors[1][0].numel()


def _bilinear(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    return output.numel() * tensors[2][0].numel()


def _product(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Of matrices, stacks of matrices and vectors."""
    return output.numel() * tensors[0].shape[-1]


def _added_product(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """The product of the second and the third, added to the first; stacks may be summed over."""
    _, left, right = tensors[:3]
    return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)


def _tensordot(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """The operands have A C and B C elements, the output A B, and C are summed for each of them."""
    return math.isqrt(tensors[0].numel() * tensors[1].numel() * output.numel())


def _attention(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Scores of all pairs of positions, and sums of values with them; also of pairs that a mask drops."""
    query, key, value = tensors[:3]
    pairs = query.numel() // query.shape[-1] * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _einsum(output: Tensor, tensors: Sequence[Tensor], args: Sequence[Any]) -> int:
    """Of two operands: the size of the output times that of the indices summed over."""
    terms, result = _terms(args[0])
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        before, _, after = term.partition("...")
        sizes |= zip(before, tensor.shape, strict=False)
        sizes |= zip(reversed(after), reversed(tensor.shape), strict=False)
    summed = math.prod(size for letter, size in sizes.items() if letter not in result)
    return output.numel() * summed if len(tensors) > 1 else 0


COUNTS: dict[str, Count] = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _weighted),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed),
    "bilinear": _bilinear,
    **dict.fromkeys(("matmul", "linalg_matmul", "mm", "bmm", "mv", "dot", "inner", "linalg_vecdot"), _product),
    **dict.fromkeys(("addmm", "addmm_", "baddbmm", "baddbmm_", "addbmm", "addbmm_", "addmv", "addmv_"), _added_product),
    "tensordot": _tensordot,
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
}
"""By the name of the function."""
RECURRENT = frozenset(
    ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
)
CHAINS = frozenset(("chain_matmul", "linalg_multi_dot"))
"""Products of several matrices, which are counted from left to right; torch may choose an order that takes fewer."""
SEEN = frozenset(COUNTS) | RECURRENT | CHAINS
