"""The limit of the number of values in a request body, checked before the body is parsed.

A value of one byte becomes an object of up to 100 bytes, and each one is validated.
"""

import re
from itertools import islice

from app.errors import FieldError, InvalidInputError

MAX_VALUES = 20_000

# The separators before a token, then one token: a text (group 1 is set if it is a name, which a
# colon follows), the start of a list or an object, a number or a word, or the end (group 2).
# It matches at every position, and no part of it gives back what it has matched, so the time
# depends linearly on the length. The end of a text may be missing, for the same reason.
_TOKEN = re.compile(
    rb"""[\s,:\]}]*+(?:"(?:[^"\\]++|\\.)*+"?\s*+(:)?|[\[{]|[^\s,:"\[\]{}]++|(\Z))""", re.DOTALL
)


def check_number_of_values(body: bytes) -> None:
    """Raise InvalidInputError if the JSON text has more than MAX_VALUES values: objects, lists,
    texts, numbers, `true`, `false` and `null`.

    The names in objects do not count. What is not JSON may pass; the parser rejects it.
    """
    values = 0
    # Each name has a value, so of more tokens than this more than MAX_VALUES are values.
    for token in islice(_TOKEN.finditer(body), 2 * MAX_VALUES + 1):
        values += token.lastindex is None
    if values > MAX_VALUES:
        detail = f"the body may have at most {MAX_VALUES:,} values; send less at once"
        raise InvalidInputError(detail, [FieldError("", detail)])
