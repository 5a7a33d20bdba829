"""Argon2id in few threads with a short queue: hashing is meant to be expensive, for us too (OWASP password storage)."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from server.errors import OverloadedError

Result = TypeVar("Result")

# One hash takes about 0.1 s of a core. Two at once leave the event loop its share of the smallest machine (two
# cores) and take 128 MiB; more would only make each of them slower.
THREADS = 2
# The last in a queue of thirty waits for 1.5 s; who comes later is told to come back instead of timing out.
QUEUE = 30

_HASHER = argon2.PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
# A hash of a password that nobody has: an unknown address costs as much time as a wrong password.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=1$qeQY/zJ6tCvmFoqRf7rLUw$htvQekcyMikYp8k9b/mPI3lPLRusYLfW0K6EHrS1YtU"
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
_room = threading.BoundedSemaphore(THREADS + QUEUE)


async def hash_password(password: str) -> str:
    """Return the hash to store.

    Raises:
        OverloadedError: The queue is full.
    """
    return await _run(lambda: _HASHER.hash(password))


async def is_password(password: str, stored: str | None) -> bool:
    """Return whether a password opens an account; takes as long for an account that no password opens.

    Raises:
        OverloadedError: The queue is full.
    """
    fits = await _run(lambda: _fits(password, stored or _NOBODY))
    return fits and stored is not None


def _fits(password: str, stored: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


async def _run(work: Callable[[], Result]) -> Result:
    if not _room.acquire(blocking=False):
        raise OverloadedError("Too many people log in at the moment.")

    future = _pool.submit(work)
    # On the thread's future, not in this coroutine: a caller who gives up does not make the thread free, and a
    # place in the queue that is given up is free at once.
    future.add_done_callback(lambda _: _room.release())
    return await asyncio.wrap_future(future)
