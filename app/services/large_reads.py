"""Limits the large reads that are in progress at the same time, because each needs much memory."""

from app.services.user_limit import UserLimit

MOST = 8
"""In progress in this process. A page of 4 MB needs up to 20 MB until its response is written."""

MOST_OF_A_USER = 2


class LargeReads(UserLimit):
    """Pages of listings and single executions that are read and rendered."""

    def __init__(self) -> None:
        super().__init__(most=MOST, most_of_a_user=MOST_OF_A_USER)
