"""Dynamic batching: who is answered with whom, and what errors and leaving do."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from services.recommender.batcher import Batcher

PATIENCE_S = 30.0
MOST = 4


class Doubling:
    """Doubles numbers, one batch for each permit; refuses negative ones, and fails at 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.permits = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        assert self.permits.acquire(timeout=PATIENCE_S)
        self.batches.append(list(items))
        if 13 in items:
            raise RuntimeError("thirteen")
        return [2 * item if item >= 0 else ValueError(item) for item in items]


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
async def batcher(doubling: Doubling) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(doubling, MOST)
    yield batcher
    doubling.permits.release(100)
    batcher.close()


async def asked(batcher: Batcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.ask(item)) for item in items]
    await asyncio.sleep(0)  # they are in the queue now
    return tasks


async def test_an_item_that_comes_alone_is_answered_at_once(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release()
    assert await batcher.ask(1) == 2
    assert doubling.batches == [[1]]


async def test_items_that_wait_are_answered_together_up_to_a_bound_in_their_order(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    tasks = await asked(batcher, *range(7))
    doubling.permits.release(3)
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
    assert doubling.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_items_wait_for_each_other_once_there_was_company(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release(100)
    await asyncio.gather(*await asked(batcher, *range(5)))
    one_by_one = []
    for item in (5, 6, 7):
        one_by_one += await asked(batcher, item)
    assert await asyncio.gather(*one_by_one) == [10, 12, 14]
    assert doubling.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]


async def test_who_waited_in_vain_is_the_last_to_do_so(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release(100)
    await asyncio.gather(*await asked(batcher, *range(5)))
    assert await batcher.ask(5) == 10
    [begun] = await asked(batcher, 6)
    [late] = await asked(batcher, 7)
    assert [await begun, await late] == [12, 14]
    assert doubling.batches[2:] == [[5], [6], [7]]


async def test_all_may_leave_while_they_wait_for_company(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release(100)
    await asyncio.gather(*await asked(batcher, *range(5)))
    [leaving] = await asked(batcher, 5)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert await asyncio.wait_for(batcher.ask(6), PATIENCE_S) == 12
    assert 5 not in [item for batch in doubling.batches for item in batch]


async def test_closing_gives_up_who_waits_for_company(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release(100)
    await asyncio.gather(*await asked(batcher, *range(5)))
    [waiting] = await asked(batcher, 5)
    batcher.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(waiting, PATIENCE_S)
    assert [5] not in doubling.batches


async def test_an_error_among_the_answers_is_one_item_s_own(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    tasks = await asked(batcher, 0, 1, -2, 3)
    doubling.permits.release(2)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(2), ValueError)
    assert answers == [0, 2, 6]


async def test_a_failure_is_told_to_who_is_to_blame_alone(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    doubling.permits.release(10)
    tasks = await asked(batcher, 0, 1, 13, 2)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert str(answers.pop(2)) == "thirteen"
    assert answers == [0, 2, 4]
    assert await batcher.ask(2) == 4


async def test_who_leaves_while_waiting_is_not_answered(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    tasks = await asked(batcher, 0, 1, 2)
    tasks[1].cancel()
    await asyncio.sleep(0)
    doubling.permits.release(2)
    assert await tasks[2] == 4
    assert doubling.batches == [[0], [2]]


async def test_who_leaves_while_being_answered_does_not_disturb_the_others(
    batcher: Batcher[int, int], doubling: Doubling
) -> None:
    tasks = await asked(batcher, 0, 1)
    tasks[0].cancel()
    await asyncio.sleep(0)
    doubling.permits.release(2)
    assert await tasks[1] == 2
    assert tasks[0].cancelled()
