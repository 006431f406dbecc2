"""Explains why a body is not JSON, with the line and the column, and without repeating the body."""

import json

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


def explain(error: json.JSONDecodeError) -> str:
    """What is wrong where, and what to write instead. `error` has the whole body."""
    message = error.msg.removesuffix(": ").strip()
    text = _explain_character(error) or _TEXTS.get(message, "this is not JSON")
    return f"line {error.lineno}, column {error.colno}: {text}"


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
