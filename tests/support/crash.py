"""The end of a process by SIGKILL, as an exception."""


class Killed(BaseException):
    """Stands for kill -9 inside the process."""
