"""Signs users in and authenticates tokens. Users are read from the database on every call."""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import structlog

from app.addresses import group_of
from app.clock import Clock
from app.errors import (
    ConfigurationError,
    ConflictError,
    ExpiredTokenError,
    InvalidInputError,
    InvalidTokenError,
    NotAuthenticatedError,
)
from app.models.ids import NewId
from app.models.user import Actor, Role, User
from app.repositories.users import UserRepository
from app.security import (
    MAX_PASSWORD_LENGTH,
    MIN_PASSWORD_LENGTH,
    Algorithm,
    PasswordCheck,
    TokenError,
    TokenKey,
    generate_password,
    hash_password,
    issue_token,
    read_token,
    verify_password,
)
from app.services.sign_in_limit import PARALLEL_HASHES, SignInLimit

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

PASSWORD_THREADS = "password"
"""The name prefix of the threads that hash passwords."""

_MAX_USERNAME_LENGTH = 64
_USERNAME = re.compile(rf"[a-z0-9._@-]{{1,{_MAX_USERNAME_LENGTH}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and its new random password."""

    username: str
    password: str

    def announcement(self) -> str:
        """The text for the person who starts the service."""
        return (
            f"The first admin is `{self.username}` with the password `{self.password}`.\n"
            "It is shown only this once."
        )


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A new token and its lifetime."""

    token: str
    lifetime: timedelta


class AuthService:
    """Signs users in. User names ignore case. Every method may raise UnavailableError."""

    def __init__(
        self,
        *,
        users: UserRepository,
        clock: Clock,
        new_id: NewId,
        secret_key: bytes,
        algorithm: Algorithm,
        token_lifetime: timedelta,
    ) -> None:
        self._users = users
        self._clock = clock
        self._new_id = new_id
        self._key = TokenKey(secret_key, algorithm)
        self._lifetime = token_lifetime
        self._threads = ThreadPoolExecutor(PARALLEL_HASHES, thread_name_prefix=PASSWORD_THREADS)
        self._sign_in_limit = SignInLimit()
        self._dummy_hash: str | None = None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def sign_in(self, username: str, password: str, *, address: str) -> AccessToken:
        """A token for the user. `address` is that of the client.

        An unknown name, a wrong password and a disabled user give the same response after the
        same time, because a hash is verified in each case. Raises NotAuthenticatedError, and
        TooManyRequestsError if too many sign-ins are in progress.
        """
        with self._sign_in_limit.enter(group_of(address)):
            return await self._sign_in(username, password, address)

    async def _sign_in(self, username: str, password: str, address: str) -> AccessToken:
        dummy_hash = await self._get_dummy_hash()
        user = await self._find(username)
        stored_hash = dummy_hash if user is None else user.password_hash
        check = await self._verify(password, stored_hash)
        if user is None or not user.active or not check.ok:
            # People type passwords into the field of the name, so only a known name is logged.
            known = {} if user is None else {"username": user.username}
            _log.warning("sign_in_failed", address=address, **known)
            raise NotAuthenticatedError("The user name or the password is wrong.")
        if check.new_hash is not None:
            await self._users.set_password_hash(user.id, stored_hash, check.new_hash)
        return AccessToken(self._issue(user), self._lifetime)

    async def authenticate(self, token: str) -> Actor:
        """Return the user of a valid token as an actor, with the role that the database has now.

        Raises InvalidTokenError and ExpiredTokenError.
        """
        try:
            claims = read_token(self._key, token, now=self._clock.now())
        except TokenError as error:
            if error.is_expired:
                raise ExpiredTokenError("The access token has expired; sign in again.") from error
            raise _invalid_token() from error
        user = await self._users.find(claims.user_id)
        if user is None or not user.active or claims.issued_at < user.tokens_valid_from:
            raise _invalid_token()
        return Actor(user_id=user.id, username=user.username, role=user.role)

    async def ensure_first_admin(self, username: str, password: str | None) -> Credentials | None:
        """Add an admin if there is no user. Several processes may call this at the same time.

        Returns the credentials only if this call stored a random password, so that they are shown
        once. Raises ConfigurationError for an invalid name or password.
        """
        if await self._users.any_exists():
            return None
        chosen = password or generate_password()
        try:
            name = _check_username(username)
            _check_password(chosen)
        except InvalidInputError as error:
            (invalid,) = error.errors
            variable = f"ADMIN{invalid.pointer.replace('/', '_').upper()}"
            raise ConfigurationError(
                f"The first admin cannot be added: {variable}: {invalid.detail}."
            ) from error
        admin = await self._new_user(name, chosen, Role.ADMIN)
        if not await self._users.insert(admin):
            return None
        _log.info("first_admin_added", user_id=admin.id)
        return None if password else Credentials(name, chosen)

    async def add_user(self, username: str, password: str, role: Role) -> User:
        """Store a new user. Raises InvalidInputError, and ConflictError if the name is taken."""
        name = _check_username(username)
        _check_password(password)
        user = await self._new_user(name, password, role)
        if not await self._users.insert(user):
            raise ConflictError(f"A user with the name {name!r} already exists.")
        return user

    async def _new_user(self, username: str, password: str, role: Role) -> User:
        now = self._clock.now()
        return User(
            id=self._new_id(),
            username=username,
            password_hash=await self._run_in_thread(lambda: hash_password(password)),
            role=role,
            tokens_valid_from=now.replace(microsecond=0),
            created_at=now,
            updated_at=now,
        )

    async def _find(self, username: str) -> User | None:
        name = username.casefold()
        return await self._users.find_by_username(name) if _USERNAME.fullmatch(name) else None

    async def _verify(self, password: str, password_hash: str) -> PasswordCheck:
        if len(password) > MAX_PASSWORD_LENGTH:  # wrong, but verified like any other
            password = ""
        return await self._run_in_thread(lambda: verify_password(password, password_hash))

    async def _get_dummy_hash(self) -> str:
        """The hash of an unknown password, with the present parameters."""
        if self._dummy_hash is None:
            self._dummy_hash = await self._run_in_thread(lambda: hash_password(generate_password()))
        return self._dummy_hash

    def _issue(self, user: User) -> str:
        return issue_token(
            self._key,
            user_id=user.id,
            token_id=self._new_id(),
            now=max(self._clock.now(), user.tokens_valid_from),
            lifetime=self._lifetime,
        )

    async def _run_in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _check_username(username: str) -> str:
    name = username.casefold()
    if not _USERNAME.fullmatch(name):
        raise InvalidInputError.at(
            "/username",
            f"a user name has 1 to {_MAX_USERNAME_LENGTH} of the characters a-z 0-9 . _ @ -",
        )
    return name


def _check_password(password: str) -> None:
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        raise InvalidInputError.at(
            "/password",
            f"a password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters",
        )
    if "\0" in password:
        raise InvalidInputError.at("/password", "a password must not contain a NUL character")


def _invalid_token() -> InvalidTokenError:
    return InvalidTokenError("The access token is not valid, or no longer valid; sign in again.")
