"""Formulas as text, taken apart: the response, fixed terms, groups, smooth and monotone terms.

    response | trials(n) | cens(c) ~ fixed terms + (effects | group) + s(x) + mo(x) + offset(e)

What is left as fixed terms is the language of formulaic. Nothing is evaluated here; the names and
functions that expressions may use are those of `FUNCTIONS`.
"""

from __future__ import annotations

import ast
import dataclasses
import re

from bayesdl.data.validation import ModelError, did_you_mean

# functions of one column that a formula may call
ARITHMETIC = ("log", "log10", "log2", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tanh")
# what formulaic learns from the training data and applies to new data
STATEFUL = ("center", "scale", "standardize", "poly", "bs", "cr", "cs", "cc", "C", "I")
FUNCTIONS = (*ARITHMETIC, *STATEFUL)
SPECIAL = ("s", "gp", "mo", "offset")
CONTRASTS = ("treatment", "sum", "helmert", "diff", "poly", "SAS", "custom")
LEAST = 2  # functions of a smooth term
# what formulas read as the column itself, and few people mean: x**2, log(x)^2, x:x, x*x
POWER = re.compile(r"(?<![\w.])(?P<name>[\w.]+(?:\(\s*\))?|`[^`]+`)\s*(?:\*\*|\^)\s*\d")
TWICE = re.compile(r"(?<![\w.`])(?P<name>[\w.]+|`[^`]+`)\s*[:*]\s*(?P=name)(?![\w.(])")
OPENING, CLOSING = "([{", ")]}"


@dataclasses.dataclass(frozen=True)
class GroupText:
    """A group term `(effects | factor)`.

    Attributes:
        effects: the effects, in the language of formulaic.
        factors: the columns whose combinations are the groups.
        correlated: whether the effects of a group are correlated: `|`, not `||`.
    """

    effects: str
    factors: tuple[str, ...]
    correlated: bool

    @property
    def group(self) -> str:
        """The name of the groups."""
        return ":".join(self.factors)


@dataclasses.dataclass(frozen=True)
class Call:
    """A special term such as `s(x, m=20)`.

    Attributes:
        function: its name, one of `SPECIAL`.
        variables: the columns, or the expression of an offset.
        settings: the settings by name.
    """

    function: str
    variables: tuple[str, ...]
    settings: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        """The name of the term."""
        return f"{self.function}({', '.join(self.variables)})"


@dataclasses.dataclass(frozen=True)
class Predictor:
    """The right side of a formula.

    Attributes:
        fixed: the fixed terms, in the language of formulaic.
        groups: the group terms.
        calls: the special terms, without offsets.
        offsets: the expressions of offsets.
    """

    fixed: str
    groups: tuple[GroupText, ...] = ()
    calls: tuple[Call, ...] = ()
    offsets: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Response:
    """The left side of a formula.

    Attributes:
        name: the column that is predicted, or the parameter of the likelihood.
        trials: the column of numbers of trials, or a whole number as text; may be empty.
        censored: the column that says which rows are right-censored; may be empty.
    """

    name: str
    trials: str = ""
    censored: str = ""


def parse(text: str) -> tuple[Response, Predictor]:
    """Take a formula apart.

    Raises:
        ModelError: where it does not parse, with the place.
    """
    _check_brackets(text)
    sides = _split(text, "~")
    if len(sides) != 2:
        at = len(text) if len(sides) < 2 else sides[2][1] - 1
        raise _error(text, at, f"got {len(sides) - 1} '~', expected one, as in 'y ~ x'")
    (left, _), (right, start) = sides
    return _response(text, left), _predictor(text, right, start)


def check_expression(text: str, allowed: tuple[str, ...] = FUNCTIONS) -> tuple[str, ...]:
    """Return the columns that an expression names, which may call known functions only.

    Raises:
        ModelError: for anything but arithmetic of columns and numbers, and known functions.
    """
    quoted: dict[str, str] = {}

    def plain(match: re.Match) -> str:
        name = f"column_{len(quoted)}_"
        quoted[name] = match[1]
        return name

    code = re.sub(r"`([^`]+)`", plain, text)
    try:
        tree = ast.parse(code.strip(), mode="eval")
    except SyntaxError as error:
        raise _error(text, (error.offset or 1) - 1, "it does not parse") from None
    found = _columns_of(tree.body, text, allowed)
    return tuple(dict.fromkeys(quoted.get(name, name) for name in found))


def _columns_of(node: ast.AST, text: str, allowed: tuple[str, ...]) -> list[str]:
    """Return the names of columns in an expression, in their order."""
    if isinstance(node, ast.Constant):
        return []
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.BinOp):
        return _columns_of(node.left, text, allowed) + _columns_of(node.right, text, allowed)
    if isinstance(node, ast.UnaryOp):
        return _columns_of(node.operand, text, allowed)
    if isinstance(node, ast.List | ast.Tuple):
        return [name for part in node.elts for name in _columns_of(part, text, allowed)]
    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("contr.", "np.pi")):
        return []
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        plain = function.removeprefix("np.")
        by_contrast = function.startswith("contr.") and function[6:] in CONTRASTS
        if plain in allowed or by_contrast:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            return [name for value in values for name in _columns_of(value, text, allowed)]
        hint = did_you_mean(plain, (*allowed, *SPECIAL))
        raise ModelError(
            f"Formula: {function}() in {text!r} is no function that formulas know: {hint}Expected "
            f"one of {', '.join(allowed)}, or compute the column before the fit."
        )
    raise ModelError(
        f"Formula: {ast.unparse(node)!r} in {text!r} is not arithmetic of columns: compute it as a "
        "column of the table before the fit."
    )


def _response(text: str, left: str) -> Response:
    """Return the left side of a formula."""
    name, *additions = (part.strip() for part, _ in _split(left, "|"))
    if not name:
        raise _error(text, 0, "there is no response before '~'")
    given = {}
    for addition in (one for part in additions for one, _ in _split(part, "+")):
        match = re.fullmatch(r"\s*(trials|cens)\(\s*(\w+|`[^`]+`)\s*\)\s*", addition)
        if match is None:
            raise _error(
                text, text.find(addition.strip()), "expected trials(column) or cens(column) here"
            )
        given["censored" if match[1] == "cens" else "trials"] = match[2].strip("`")
    plain = name.strip("`")
    if plain == name and not name.isidentifier():
        raise _error(
            text,
            0,
            f"the response is {name!r}, expected the name of a column: compute it as a column, or "
            "put a name that has other characters between backticks",
        )
    return Response(plain, **given)


def _predictor(text: str, right: str, start: int) -> Predictor:
    """Return the right side of a formula."""
    fixed: list[str] = []
    groups: list[GroupText] = []
    calls: list[Call] = []
    offsets: list[str] = []
    for term, at in _split(right, "+-", keep=True):
        sign, body = term[0], term[1:].strip()
        place = start + at
        if not body:
            if sign == "+" and not fixed and not at:
                continue
            raise _error(text, min(place, len(text)), "a term is missing")
        inner = body[1:-1] if body.startswith("(") and body.endswith(")") else ""
        if inner and len(_split(inner, "|")) > 1:
            if sign == "-":
                raise _error(text, place, f"{body} cannot be subtracted")
            groups += _group(text, inner, place)
            continue
        match = re.match(rf"({'|'.join(SPECIAL)})\s*\((.*)\)$", body)
        if match is None:
            for name in SPECIAL[:3]:
                if re.search(rf"(?<![\w.]){name}\s*\(", body):
                    raise _error(text, place, f"{name}(...) stands alone, not in an interaction")
            _refuse_powers(text, body, place)
            fixed.append(f"{sign} {body}")
        elif sign == "-":
            raise _error(text, place, f"{body} cannot be subtracted")
        elif match[1] == "offset":
            check_expression(match[2], ARITHMETIC)
            offsets.append(match[2].strip())
        else:
            calls.append(_call(text, match[1], match[2], place))
    return Predictor(" ".join(fixed), tuple(groups), tuple(calls), tuple(offsets))


def _refuse_powers(text: str, body: str, at: int) -> None:
    """Refuse powers of one column, and products with itself.

    Raises:
        ModelError: with the cure.
    """
    plain = _at_top(body)
    found = POWER.search(plain) or TWICE.search(plain)
    if found is None or found["name"].isdigit():
        return
    one = body[found.start("name") : found.end("name")]
    raise _error(
        text,
        max(text.find(body, at), at) + found.start(),
        f"a formula reads it as {one} itself; write I({one}**2) for the square",
    )


def _at_top(text: str) -> str:
    """Return a text with blanks in place of what stands between brackets or quotes."""
    depth, letters = 0, []
    for letter in text:
        depth -= letter in CLOSING
        letters.append(" " if depth else letter)
        depth += letter in OPENING
    return "".join(letters)


def _group(text: str, inner: str, at: int) -> list[GroupText]:
    """Return the group terms of `effects | factor`; `a/b` makes one for a and one for a:b."""
    parts = [part.strip() for part, _ in _split(inner, "|")]
    correlated = True
    if len(parts) == 3 and not parts[1] and "||" in inner:
        correlated, parts = False, [parts[0], parts[2]]
    if len(parts) != 2 or not parts[0] or not parts[1]:
        raise _error(text, at, "expected a group term such as (1 | g), (x | g) or (x || g)")
    effects, factor = parts
    _refuse_powers(text, effects, at)
    if not re.fullmatch(r"(\w+|`[^`]+`)(\s*[:/]\s*(\w+|`[^`]+`))*", factor):
        raise _error(
            text,
            max(text.find(factor, at), at),
            f"the groups are {factor!r}, expected columns such as g, g1:g2 or g1/g2",
        )
    names = [name.strip().strip("`") for name in re.split(r"[:/]", factor)]
    if "/" not in factor:
        return [GroupText(effects, tuple(names), correlated)]
    if ":" in factor:
        raise _error(text, max(text.find(factor, at), at), "expected either ':' or '/' here")
    depths = range(1, len(names) + 1)
    return [GroupText(effects, tuple(names[:depth]), correlated) for depth in depths]


def _call(text: str, function: str, inside: str, at: int) -> Call:
    """Return a smooth or monotone term."""
    variables, settings = [], {}
    for argument, _ in _split(inside, ","):
        match = re.fullmatch(r"\s*(m|degree)\s*=\s*(\d+)\s*", argument)
        if match is not None:
            settings[match[1]] = float(match[2])
        elif re.fullmatch(r"\s*(\w+|`[^`]+`)\s*", argument):
            variables.append(argument.strip().strip("`"))
        else:
            raise _error(
                text,
                max(text.find(argument.strip(), at), at),
                f"{function}() takes columns{' and m=20' if function == 's' else ''}, got "
                f"{argument.strip()!r}",
            )
    if len(variables) != 1:
        raise _error(text, at, f"{function}() takes one column, got {len(variables)}")
    if set(settings) - ({"m"} if function == "s" else set()):
        raise _error(text, at, f"{function}() has no setting {sorted(settings)[0]!r}")
    if settings.get("m", LEAST) < LEAST:
        raise _error(text, at, f"s() takes m={LEAST} functions or more")
    return Call(function, tuple(variables), tuple(settings.items()))


def _split(text: str, marks: str, keep: bool = False) -> list[tuple[str, int]]:
    """Split a text at marks outside of brackets and quotes; give parts with their positions.

    Args:
        text: the text.
        marks: the characters at which to split.
        keep: whether each part begins with its mark, the first one with "+".
    """
    parts, depth, begin, quote = [], 0, 0, ""
    mark = "+" if keep else ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "`'\"":
            quote = letter
        elif letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth -= 1
        elif letter in marks and depth == 0:
            if keep and not text[begin:at].strip() and begin == 0:
                mark, begin = letter, at + 1
                continue
            parts.append((mark + text[begin:at], begin))
            mark, begin = (letter if keep else ""), at + 1
    return [*parts, (mark + text[begin:], begin)]


def _check_brackets(text: str) -> None:
    """Refuse brackets that do not match.

    Raises:
        ModelError: with the place.
    """
    stack: list[tuple[str, int]] = []
    for at, letter in enumerate(text):
        if letter in OPENING:
            stack.append((letter, at))
        elif letter in CLOSING and (
            not stack or OPENING.index(stack.pop()[0]) != CLOSING.index(letter)
        ):
            raise _error(text, at, f"this {letter!r} closes nothing")
    if stack:
        raise _error(text, stack[-1][1], f"this {stack[-1][0]!r} is never closed")
    if text.count("`") % 2:
        raise _error(text, text.rfind("`"), "this backtick is never closed")


def _error(text: str, at: int, why: str) -> ModelError:
    """Return an error that shows the place in a formula."""
    at = max(0, min(at, len(text)))
    return ModelError(
        f"Formula {text!r} does not parse at character {at + 1}: {why}.\n    {text}\n"
        f"    {' ' * at}^"
    )
