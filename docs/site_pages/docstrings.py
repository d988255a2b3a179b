"""Docstrings as Sphinx reads them: plain characters stay what they are."""

from __future__ import annotations

import re

CODE = re.compile(r"(`+)(.+?)\1")


def mend(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make words in single backticks code, and keep stars, bars and underscores as they are.

    Indented formulas, which stand between empty lines, are shown as they are written.
    """
    mended: list[str] = []
    literal = False
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        indented = line.startswith("    ") and not line.lstrip().startswith((">>>", "..."))
        if indented and not before.strip() and not literal and _plain(lines, number):
            mended += ["::", ""] if not _in_list(mended) else []
            literal = not _in_list(mended[:-2] if mended[-2:] == ["::", ""] else mended)
        elif line.strip() and not line.startswith(" "):
            literal = False
        mended.append(line if literal or _is_code(line) else _escape(line))
    lines[:] = [
        # settings of a frozen dataclass are the parameters of its constructor
        line.replace(":ivar ", ":param ")
        for line in mended
        if not line.startswith(":vartype")
    ]


def _plain(lines: list[str], number: int) -> bool:
    """Return whether an indented line begins a formula, and no part of a field or an example."""
    above = [line for line in lines[:number] if line.strip()]
    return bool(above) and not above[-1].startswith((" ", ":", "..")) and ">>>" not in above[-1]


def _in_list(lines: list[str]) -> bool:
    return bool(lines) and lines[-1].lstrip().startswith(("- ", "* ", ":"))


def _is_code(line: str) -> bool:
    return line.lstrip().startswith((">>>", "...", ".. ", ":type", ":rtype"))


def _escape(line: str) -> str:
    """Escape what reStructuredText would read as markup, outside of code."""
    parts, end = [], 0
    for match in CODE.finditer(line):
        parts += [_plain_text(line[end : match.start()]), f"``{match.group(2)}``"]
        end = match.end()
    return "".join([*parts, _plain_text(line[end:])])


def _plain_text(text: str) -> str:
    field = re.match(r"\s*:(param|ivar|raises|returns|vartype|type|rtype)[^:]*:", text)
    head, rest = (text[: field.end()], text[field.end() :]) if field else ("", text)
    head = head.replace("*", r"\*")
    rest = re.sub(r"(?<!\\)([*|])", r"\\\1", rest)
    return head + re.sub(r"(\w)_(?=\W|$)", r"\1\\_", rest)
