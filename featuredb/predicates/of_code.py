"""Predicates of Python source: its words, names, signs and lines."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable

import numpy as np

from featuredb.predicates import scan
from featuredb.predicates.code import BASES, BRACE, CALL, LIST, PARAMETERS, SUBSCRIPT, Code
from featuredb.predicates.predicate import Predicate
from featuredb.predicates.text import Mask
from featuredb.predicates.view import View

CONSTANTS = ("None", "True", "False")
KEYWORDS = tuple(sorted(set(keyword.kwlist).difference(CONSTANTS)))
BUILTINS = tuple(name for name in dir(builtins) if name.islower() and name.isalpha())
EXCEPTIONS = tuple(
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
)
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**", "@")
AUGMENTED = ("+=", "-=", "*=", "/=", "//=", "%=", "**=", "|=", "&=", "^=", "<<=", ">>=", "@=")


def _code(name: str, noun: str, when: str, lexemes: Callable[[Code], Mask], *, wide: bool = False) -> Predicate:
    """Of tokens on some lexemes."""
    return Predicate(f"code.{name}", noun, when, lambda view: view.code.tokens(lexemes(view.code)), wide=wide)


def _first(name: str, noun: str, when: str, lexemes: Callable[[Code], Mask], *, wide: bool = False) -> Predicate:
    """The same, but of strings only their first token counts."""

    def tokens(view: View) -> Mask:
        code = view.code
        chosen = lexemes(code)
        end = np.where(code.kind == scan.STRING, code.start + 1, code.end)
        return view.text.over(code.start[chosen], end[chosen])

    return Predicate(f"code.{name}", noun, when, tokens, wide=wide)


def _word(name: str, noun: str, when: str, *words: str) -> Predicate:
    return _code(name, noun, when, lambda code: code.is_(*words))


def _name_after(name: str, noun: str, when: str, *words: str) -> Predicate:
    """Of names that follow one of some words or signs."""
    return _code(name, noun, when, lambda code: _names(code) & code.before(code.is_(*words)))


def _spelt(name: str, noun: str, when: str, pattern: str) -> Predicate:
    """Of names of a form."""
    matches = re.compile(pattern).fullmatch

    def lexemes(code: Code) -> Mask:
        fit = np.array([matches(each) is not None for each in code.spelling], np.bool_)
        return _names(code) & fit[code.string] if len(fit) else _names(code)

    return _code(name, noun, when, lexemes)


def _on_lines(name: str, noun: str, when: str, *openers: str) -> Predicate:
    return _code(name, noun, when, lambda code: code.lines(*openers), wide=True)


def _names(code: Code) -> Mask:
    """Names that are no keywords."""
    return code.name & ~code.is_(*keyword.kwlist)


def _called(code: Code) -> Mask:
    """Names before an opening parenthesis, where they are not being defined."""
    found: Mask = _names(code) & code.after(code.is_("(")) & ~code.before(code.is_("def", "class"))
    return found


def _keyword_arguments(code: Code) -> Mask:
    within: Mask = _names(code) & (code.inside == CALL)
    return within & code.after(code.is_("=")) & code.before(code.is_("(", ","))


def _parameters(code: Code) -> Mask:
    within: Mask = _names(code) & (code.inside == PARAMETERS)
    return within & code.before(code.is_("(", ",", "*", "**"))


def _attributes(code: Code) -> Mask:
    """Names after a dot, but for those of modules being imported."""
    return _names(code) & code.before(code.is_(".")) & ~code.lines("import", "from")


def _base_classes(code: Code) -> Mask:
    within: Mask = code.inside == BASES
    return within & _names(code) & ~code.after(code.is_("=")) & ~code.before(code.is_("="))


def _arguments(code: Code) -> Mask:
    """First lexemes of the arguments of a call."""
    within: Mask = code.inside == CALL
    return within & code.before(code.is_("(", ",")) & ~code.is_(")")


def _assigned(code: Code) -> Mask:
    free: Mask = code.depth == 0
    return free & _names(code) & code.after(code.is_("="))


def _block_colons(code: Code) -> Mask:
    free: Mask = code.depth == 0
    return free & code.is_(":") & code.last


def _loop_variables(code: Code) -> Mask:
    """Names between `for` and `in`."""
    starts, ends = code.is_("for"), code.is_("in")
    last = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), -1))
    stop = np.maximum.accumulate(np.where(ends, np.arange(len(ends)), -1))
    between: Mask = (last > stop) & (np.arange(len(starts)) - last < 12)
    return between & _names(code)


def _modules(code: Code) -> Mask:
    """Parts of the dotted names after `import` and `from`."""
    line = code.lines("import", "from")
    starts, ends = code.is_("from", "import") & line, code.is_("import", "as") & ~code.first
    last = np.maximum.accumulate(np.where(starts & code.first, np.arange(len(line)), -1))
    stop = np.maximum.accumulate(np.where(ends, np.arange(len(line)), -1))
    between: Mask = last > stop
    return between & line & _names(code)


def _imported(code: Code) -> Mask:
    """Names after the `import` of a `from` line."""
    line = code.lines("from")
    stop = np.maximum.accumulate(np.where(code.is_("import"), np.arange(len(line)), -1))
    after: Mask = stop > code.opener
    return after & line & _names(code)


def _comment(first: bool) -> Callable[[View], Mask]:
    def tokens(view: View) -> Mask:
        if not first:
            return view.text.over_pairs(view.code.comments)
        word = re.compile(r"#+[\s:!]*(\w+)")
        found = (word.match(view.text.string, *each) for each in view.code.comments)
        return view.text.over_pairs(match.span(1) for match in found if match)

    return tokens


WORDS = (
    Predicate("code.comment", "comments", "in a comment", _comment(first=False), wide=True),
    Predicate("code.comment_first", "first words of comments", "first in a comment", _comment(first=True)),
    _code("plain", "code outside strings and comments", "in code", lambda code: code.kind != scan.STRING, wide=True),
    _word("keyword", "keywords", "on a keyword", *KEYWORDS),
    _word("constant", "None, True and False", "on None, True or False", *CONSTANTS),
    _word("logic", "and, or, not, in and is", "on and, or, not, in or is", "and", "or", "not", "in", "is"),
    _code(
        "builtin",
        "builtin functions and types",
        "on a builtin",
        lambda code: code.is_(*BUILTINS) & ~code.before(code.is_(".", "def")),
    ),
    _code("exception", "exception classes", "on an exception class", lambda code: code.is_(*EXCEPTIONS)),
    _word("self", "self and cls", "on self or cls", "self", "cls"),
    _code("number", "numbers in code", "on a number in code", lambda code: code.kind == scan.NUMBER),
    _spelt("dunder", "double-underscore names", "in a double-underscore name", r"__\w+__"),
    _spelt("private", "names with an underscore first", "in a name with an underscore first", r"_(?!_)\w+"),
)

NAMES = (
    _name_after("after_def", "function names after `def`", "after `def`", "def"),
    _name_after("after_class", "class names after `class`", "after `class`", "class"),
    _name_after("after_as", "names after `as`", "after `as`", "as"),
    _name_after("after_raise", "names after `raise`", "after `raise`", "raise"),
    _name_after("after_except", "names after `except`", "after `except`", "except"),
    _first("after_return", "what follows `return`", "after `return`", lambda code: code.before(code.is_("return"))),
    _code(
        "after_self",
        "attributes after `self.`",
        "after `self.`",
        lambda code: _names(code) & code.before(code.is_(".")) & code.before(code.is_("self", "cls"), 2),
    ),
    _code(
        "attribute",
        "attributes after a dot",
        "after a dot in code",
        _attributes,
    ),
    _code(
        "method",
        "methods being called",
        "on a method being called",
        lambda code: _called(code) & code.before(code.is_(".")),
    ),
    _code("call", "functions being called", "on a function being called", _called),
    _code("keyword_argument", "names of keyword arguments", "on a keyword argument's name", _keyword_arguments),
    _code("parameter", "parameters of functions", "on a parameter", _parameters),
    _first(
        "default",
        "defaults of parameters",
        "on a parameter's default",
        lambda code: (code.inside == PARAMETERS) & code.before(code.is_("=")),
    ),
    _code("base_class", "base classes", "on a base class", _base_classes),
    _code("module", "modules being imported", "on a module being imported", _modules),
    _code("imported", "names imported from a module", "on an imported name", _imported),
    _code("assigned", "names being assigned to", "on a name being assigned to", _assigned),
    _first(
        "value",
        "first words of assigned values",
        "first after an assignment",
        lambda code: (code.depth == 0) & code.before(code.is_("=")),
    ),
    _code("loop_variable", "loop variables", "on a loop variable", _loop_variables),
    _first("argument", "first words of arguments", "first in an argument", _arguments),
    _code("annotation", "type annotations", "in a type annotation", lambda code: code.annotation),
    _code(
        "key",
        "keys of dict displays",
        "on a dict key",
        lambda code: (code.inside == BRACE) & code.after(code.is_(":")) & ~code.before(code.is_(":")),
    ),
)

SIGNS = (
    _word("arithmetic", "arithmetic signs", "on an arithmetic sign", *ARITHMETIC),
    _word("comparison", "comparison signs", "on a comparison sign", *COMPARISONS),
    _code("assignment", "assignment signs", "on an assignment sign", lambda code: code.is_("=") & (code.depth == 0)),
    _code(
        "argument_sign",
        "equals signs of keyword arguments and defaults",
        "on an argument's equals sign",
        lambda code: code.is_("=") & (code.depth > 0),
    ),
    _word("augmented", "augmented assignments", "on an augmented assignment", *AUGMENTED),
    _word("bitwise", "bitwise signs", "on a bitwise sign", "&", "|", "^", "~", "<<", ">>"),
    _word("dot", "dots of attributes", "on an attribute's dot", "."),
    _word("arrow", "return arrows", "on a return arrow", "->"),
    _code("block_colon", "colons that open a block", "on a colon that opens a block", _block_colons),
)

PARTS = (
    _on_lines("decorator", "decorators", "in a decorator", "@"),
    _on_lines("import_line", "import lines", "on an import line", "import", "from"),
    _on_lines("def_line", "first lines of functions", "on a `def` line", "def"),
    _on_lines("class_line", "first lines of classes", "on a `class` line", "class"),
    _on_lines("return_line", "return statements", "in a return statement", "return"),
    _on_lines("raise_line", "raise statements", "in a raise statement", "raise"),
    _on_lines("if_line", "conditions after `if` and `while`", "in a condition", "if", "elif", "while"),
    _on_lines("for_line", "`for` lines", "on a `for` line", "for"),
    _on_lines("with_line", "`with` lines", "on a `with` line", "with"),
    _on_lines("except_line", "`except` lines", "on an `except` line", "except"),
    _on_lines("assert_line", "assertions", "in an assertion", "assert"),
    _first("statement_first", "first words of statements", "first in a statement", lambda code: code.first, wide=True),
    _code("in_call", "arguments of calls", "among a call's arguments", lambda code: code.inside == CALL, wide=True),
    _code("in_parameters", "parameter lists", "in a parameter list", lambda code: code.inside == PARAMETERS, wide=True),
    _code("in_subscript", "subscripts", "in a subscript", lambda code: code.inside == SUBSCRIPT, wide=True),
    _code("in_list", "list displays", "in a list", lambda code: code.inside == LIST, wide=True),
    _code("in_dict", "dict and set displays", "in a dict or set", lambda code: code.inside == BRACE, wide=True),
    _code(
        "free",
        "code outside brackets",
        "outside brackets, in code",
        lambda code: (code.depth == 0) & (code.kind != scan.STRING),
        wide=True,
    ),
    _code("depth_1", "code one bracket deep", "one bracket deep", lambda code: code.depth == 1, wide=True),
    _code("depth_2", "code two brackets deep", "two brackets deep", lambda code: code.depth == 2, wide=True),
    _code(
        "depth_3",
        "code three brackets deep or more",
        "three brackets deep or more",
        lambda code: code.depth >= 3,
        wide=True,
    ),
)

PREDICATES = (*WORDS, *NAMES, *SIGNS, *PARTS)
