"""Why a server did not start: the important lines of its output, and advice for known causes."""

import signal

_MAX_LINES = 8
_MAX_LINE_LENGTH = 400


def select_lines(output: bytes) -> str:
    """Return the last errors and unstructured lines, or the last lines where there are none.

    mongod logs JSON objects, whose severity `s` is `E` for an error and `F` for a fatal error.
    """
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    important = [line for line in lines if not line.startswith("{") or '"s":"E"' in line]
    important += [line for line in lines if '"s":"F"' in line]
    selected = (important or lines)[-_MAX_LINES:]
    return "\n".join(f"  {line[:_MAX_LINE_LENGTH]}" for line in selected)


def advise(lines: str, exit_status: int) -> str:
    """Return a line of advice, or an empty string if the cause is not known."""
    if "libcurl" in lines:
        return "mongod needs libcurl: apt-get install libcurl4.\n"
    if "libcrypto.so.3" in lines or "libssl.so.3" in lines:
        return "mongod needs OpenSSL 3: use Debian 12, Ubuntu 22.04 or later.\n"
    if exit_status == -signal.SIGILL:
        return "This processor lacks AVX, which MongoDB needs from version 5 on.\n"
    return ""
