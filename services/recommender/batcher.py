"""Dynamic batching: requests that wait while others are answered are answered together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


_PATIENCE = 24
"""Turns of the event loop, some microseconds each where nothing else is to be done."""


class Batcher(Generic[Item, Answer]):
    """Answers items on one thread of its own, all that wait there at a time.

    The more are answered together, the less each costs. An item that comes alone is answered at
    once: nothing waits for company until there has been some. Items that come after several were
    answered together wait as long as others keep coming, at most `_PATIENCE` turns of the event
    loop from one to the next.

    Args:
        answer: Gives the answers to some items, in their order; an exception among them is raised
            to who asked. When it raises one itself, each item is answered alone. It runs on the
            thread.
        most: Most items that are answered at once.
    """

    def __init__(
        self, answer: Callable[[Sequence[Item]], Sequence[Answer | Exception]], most: int
    ) -> None:
        self._answer = answer
        self._most = most
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batcher")
        self._waiting: dict[asyncio.Future[Answer], Item] = {}
        self._busy = False
        self._company = False

    async def ask(self, item: Item) -> Answer:
        """Give the answer to an item; who is cancelled while it waits costs nothing more."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[future] = item
        self._start()
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def close(self) -> None:
        """End the thread, when what it is at is done; who still waits is cancelled.

        Nothing may be asked any more.
        """
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._thread.shutdown()

    def _start(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        if self._company:
            self._linger(len(self._waiting), _PATIENCE)
        else:
            self._take()

    def _linger(self, waiting: int, turns: int) -> None:
        now = len(self._waiting)
        if now >= self._most or turns == 0:
            self._take()
            return
        turns = turns - 1 if now == waiting else _PATIENCE
        asyncio.get_running_loop().call_soon(self._linger, now, turns)

    def _take(self) -> None:
        futures = list(self._waiting)[: self._most]
        items = [self._waiting.pop(future) for future in futures]
        self._company = len(items) > 1
        if items:
            self._thread.submit(self._work, futures, items)
        else:  # all have left
            self._busy = False

    def _work(self, futures: Sequence[asyncio.Future[Answer]], items: Sequence[Item]) -> None:
        answers = self._answers(items)
        futures[0].get_loop().call_soon_threadsafe(self._finish, futures, answers)

    def _answers(self, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return self._answer(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            # One of them may be to blame, and the others are to have their answers.
            return [answer for item in items for answer in self._answers([item])]

    def _finish(
        self, futures: Sequence[asyncio.Future[Answer]], answers: Sequence[Answer | Exception]
    ) -> None:
        self._busy = False
        self._start()
        for future, answer in zip(futures, answers, strict=True):
            if future.cancelled():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
