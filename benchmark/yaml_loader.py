"""YAML as its version 1.2 reads it, of bounded size: what every file and every value of --set goes through.

PyYAML follows version 1.1, where 8:00:00 is 28800, 010 is 8, `no` is false, 9e-1 is text and 2024-05-01 a date. Here a
scalar is what the core schema of version 1.2 says: null, true or false, a whole number in decimal or as 0o17 or 0x1F, a
number with a point or an exponent, else text. There are no other types, so that all of it is JSON, and no tag asks for
code.
"""

from __future__ import annotations

import math
import re
from typing import Any, ClassVar

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from benchmark.cells import cut, shown

DEEPEST = 40
"""Brackets within brackets; a sweep file needs five."""
MOST_CHARACTERS = 2_000_000
"""Of what a file stands for: a few aliases of aliases stand for billions of values."""
MOST_DIGITS = 100

NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
TRUTH = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
WHOLE = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z")
NUMBER = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class NotYaml(ValueError):
    """What is wrong in one line, and where: ` line 3, column 5`, or nothing."""

    def __init__(self, problem: str, mark: yaml.Mark | None = None):
        super().__init__(problem)
        self.where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def load(content: bytes | str) -> Any:
    """The one document of `content` as null, truths, numbers, texts, lists and mappings of texts. Raises NotYaml."""
    try:
        return _Loader(content).get_single_data()
    except yaml.MarkedYAMLError as error:
        raise NotYaml(" ".join(str(error.problem).split()), error.problem_mark) from None
    except ReaderError as error:
        raise NotYaml(_unreadable(error)) from None
    except RecursionError:
        raise NotYaml("too many brackets within brackets") from None


def _unreadable(error: ReaderError) -> str:
    if error.encoding != "unicode":
        return f"byte {error.position + 1} is not {error.encoding} text"
    return f"character {error.position + 1}, #x{error.character:04x}, is one that YAML does not allow"


class _Loader(yaml.SafeLoader):
    # Empty, so that nothing of YAML 1.1 is left.
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, content: bytes | str):
        self.level = 0
        self.measures: dict[int, tuple[int, int]] = {}
        """By id of a composed node: the characters that it unfolds to, and how deep."""
        super().__init__(content)

    def compose_node(self, parent: Any, index: Any) -> Any:
        mark, alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        if alias and id(node) not in self.measures:
            raise ComposerError(None, None, "an alias within what it stands for", mark)
        characters, depth = self.measures.setdefault(id(node), (0, 0)) if alias else self._measured(node)
        if self.level + depth > DEEPEST:
            raise ComposerError(None, None, f"more than {DEEPEST} brackets within brackets", mark)
        if characters > MOST_CHARACTERS:
            problem = f"it unfolds to more than {MOST_CHARACTERS} characters; use fewer aliases"
            raise ComposerError(None, None, problem, mark)
        self.measures[id(node)] = (characters, depth)
        return node

    def _measured(self, node: Any) -> tuple[int, int]:
        if isinstance(node, yaml.ScalarNode):
            return len(node.value) + 1, 0
        inner = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        measures = [self.measures[id(one)] for one in inner]
        return 1 + sum(size for size, _ in measures), 1 + max((depth for _, depth in measures), default=0)

    def compose_sequence_node(self, anchor: Any) -> Any:
        self._refuse_deep()
        return super().compose_sequence_node(anchor)

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Keys are looked at here, since later on those that `<<` merges stand beside those that they give way to.
        self._refuse_deep()
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag not in (TEXT, MERGE) or not isinstance(key, yaml.ScalarNode):
                what = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise ComposerError(None, None, f"{what} is no key: keys are text, or in quotes", key.start_mark)
            if key.value in lines:
                problem = f"key {shown(key.value)} is there already, in line {lines[key.value]}"
                raise ComposerError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node

    def _refuse_deep(self) -> None:
        """Before Python's own limit is met, which depends on who calls."""
        if self.level > DEEPEST:
            problem = f"more than {DEEPEST} brackets within brackets"
            raise ComposerError(None, None, problem, self.peek_event().start_mark)


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


TEXT, MERGE = _tag("str"), _tag("merge")


def _matched(node: yaml.Node, pattern: re.Pattern[str], what: str) -> str:
    """The text of a scalar that its look, or a tag such as !!int, says to be `what`."""
    if not isinstance(node, yaml.ScalarNode) or not pattern.match(node.value):
        value = shown(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        raise ConstructorError(None, None, f"{value} is not {what}", node.start_mark)
    return str(node.value)


def _truth(loader: _Loader, node: yaml.Node) -> bool:
    return _matched(node, TRUTH, "true or false").lower() == "true"


def _null(loader: _Loader, node: yaml.Node) -> None:
    _matched(node, NULL, "null")


def _whole(loader: _Loader, node: yaml.Node) -> int:
    text = _matched(node, WHOLE, "a whole number")
    if len(text) > MOST_DIGITS:
        raise ConstructorError(None, None, f"{cut(text)} has more than {MOST_DIGITS} digits", node.start_mark)
    return int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)


def _number(loader: _Loader, node: yaml.Node) -> float:
    text = _matched(node, NUMBER, "a number")
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(number) and "inf" not in text.lower():
        raise ConstructorError(None, None, f"{cut(text)} is beyond the largest number, 1.8e308", node.start_mark)
    return number


def _text(loader: _Loader, node: Any) -> str:
    text = loader.construct_scalar(node)
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")  # "\ud83d\ude00" as JSON writes it
    except UnicodeDecodeError:
        raise ConstructorError(None, None, "half of a surrogate pair is no character", node.start_mark) from None


def _refused(loader: _Loader, node: yaml.Node) -> None:
    tag = cut(node.tag.replace("tag:yaml.org,2002:", "!!"))
    raise ConstructorError(None, None, f"tag {tag} is not accepted; write values without tags", node.start_mark)


for _name, _pattern, _first in (
    ("bool", TRUTH, "tTfF"),
    ("int", WHOLE, "-+0123456789"),
    ("float", NUMBER, "-+0123456789."),
    ("null", NULL, ["~", "n", "N", ""]),
    ("merge", re.compile(r"<<\Z"), "<"),
):
    _Loader.add_implicit_resolver(_tag(_name), _pattern, list(_first))
for _name, _constructor in (
    ("bool", _truth), ("int", _whole), ("float", _number), ("null", _null), ("str", _text), ("merge", _text),
    ("seq", yaml.SafeLoader.construct_yaml_seq), ("map", yaml.SafeLoader.construct_yaml_map),
):  # fmt: skip
    _Loader.add_constructor(_tag(_name), _constructor)
_Loader.add_constructor(None, _refused)
