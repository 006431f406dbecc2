"""Explains why a body is not JSON, with the line and the column, and without repeating more
of the body than a name."""

import json
import re

_TEXTS = {
    "Expecting property name enclosed in double quotes": "a name in double quotes is expected",
    "Expecting ':' delimiter": "a colon is expected after the name",
    "Expecting ',' delimiter": "a comma or the end of the list or object is expected",
    "Expecting value": "a value is expected",
    "Invalid control character at": "a text must not contain line breaks, tabs or other control "
    "characters; write \\n or \\t",
    "Invalid \\escape": 'after a backslash a text must have one of " \\ / b f n r t u',
    "Invalid \\uXXXX escape": "\\u needs four hexadecimal digits after it",
    "Unterminated string starting at": "the text that starts here has no closing double quote",
    "Extra data": "the JSON has ended, but more text follows",
    "Unexpected UTF-8 BOM (decode using utf-8-sig)": "send UTF-8 without a byte order mark",
}
_SKIPPED = " \t\n\r"
_SHOWN_NAME_LENGTH = 40
_TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")(?P<colon>[ \t\n\r]*:)?|[{}]|-?Infinity|NaN', re.DOTALL
)
"""What an object with a repeated name, or a constant that is not JSON, is found by."""


def explain(error: json.JSONDecodeError) -> str:
    """What is wrong where, and what to write instead. `error` has the whole body."""
    message = error.msg.removesuffix(": ").strip()
    text = _explain_character(error) or _TEXTS.get(message, "this is not JSON")
    return f"{_show_place(error.doc, error.pos)}: {text}"


def explain_constant(doc: str, name: str) -> str:
    """Where `doc` has a constant that JSON does not have, such as NaN."""
    position = next((one.start() for one in _TOKEN.finditer(doc) if one[0] == name), 0)
    return f"{_show_place(doc, position)}: {name} is not JSON; send a number or null"


def explain_repeated_name(doc: str) -> str:
    """Where the first object of `doc` that ends with a repeated name repeats it."""
    objects: list[tuple[set[str], list[tuple[int, str]]]] = []
    for token in _TOKEN.finditer(doc):
        if token[0] == "{":
            objects.append((set(), []))
        elif token[0] == "}" and objects:
            _, repeated = objects.pop()
            if repeated:
                position, name = repeated[0]
                return (
                    f"{_show_place(doc, position)}: the object has the name "
                    f'"{name[:_SHOWN_NAME_LENGTH]}" twice; remove one of them'
                )
        elif token["colon"] and objects:
            names, repeated = objects[-1]
            name = json.loads(token["text"])
            if name in names:
                repeated.append((token.start(), name))
            names.add(name)
    return "an object has the same name twice; remove one of them"


def _show_place(doc: str, position: int) -> str:
    place = json.JSONDecodeError("", doc, position)
    return f"line {place.lineno}, column {place.colno}"


def _explain_character(error: json.JSONDecodeError) -> str | None:
    """A more precise text by the character at the error, where a name, a value or a comma is
    missing."""
    if not error.msg.startswith(("Expecting", "Illegal trailing comma")):
        return None
    rest = error.doc[error.pos :].lstrip(_SKIPPED)
    match rest[:1]:
        case "":
            return "the body ends too early; a bracket, a brace or a value is missing"
        case "'" | "\u2018" | "\u2019" | "\u201c" | "\u201d" | "`":
            return 'names and texts need straight double quotes: "'
        case "}" | "]" if _last_before(error) == ",":
            return "remove the comma before the closing bracket or brace"
        case "/" | "#":
            return "JSON has no comments; remove it"
    if rest.startswith(("True", "False", "None")):
        return "write true, false and null in small letters"
    return None


def _last_before(error: json.JSONDecodeError) -> str:
    """The last character before the error that is no space."""
    return error.doc[: error.pos].rstrip(_SKIPPED)[-1:]
