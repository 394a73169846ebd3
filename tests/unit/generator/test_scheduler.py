"""The scheduler, with a model that only counts: what every step keeps, and who gets what first."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from services.generator.engine.blocks import BlockPool
from services.generator.engine.scheduler import Chunk, Limits, Scheduler
from services.generator.engine.sequence import Sequence

SIZE = 4


def sequence(number: int, prompt: int, new: int = 3) -> Sequence[int]:
    return Sequence(number, [number] * prompt, prompt + new)


def scheduler_of(
    *sequences: Sequence[int],
    blocks: int = 64,
    running: int = 8,
    tokens: int = 16,
    context: int | None = None,
    share: bool = True,
    ahead: bool = False,
) -> tuple[Scheduler[int], BlockPool]:
    pool = BlockPool(blocks, SIZE, share=share)
    scheduler: Scheduler[int] = Scheduler(pool, Limits(running, tokens, context), ahead=ahead)
    for one in sequences:
        scheduler.add(one)
    return scheduler, pool


def step(scheduler: Scheduler[int]) -> list[Chunk[int]]:
    """Compute a step; sequences that are ready get a token, and those that are full leave."""
    chunks = scheduler.schedule()
    for chunk in chunks:
        scheduler.done(chunk)
    for chunk in chunks:
        if chunk.last:
            chunk.sequence.tokens.append(7)
            if len(chunk.sequence.tokens) == chunk.sequence.most:
                scheduler.remove(chunk.sequence)
    return chunks


def steps(scheduler: Scheduler[int]) -> Iterator[list[Chunk[int]]]:
    while len(scheduler):
        yield step(scheduler)


def told(chunks: list[Chunk[int]]) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.owner, chunk.begin, chunk.end) for chunk in chunks]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=8),
    st.integers(10, 24),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from([None, 1, 8]),
)
def test_every_sequence_is_finished_within_the_bounds_whatever_they_are(
    sizes: list[tuple[int, int]], blocks: int, running: int, tokens: int, context: int | None
) -> None:
    sequences = [sequence(number, *size) for number, size in enumerate(sizes)]
    scheduler, pool = scheduler_of(
        *sequences, blocks=blocks, running=running, tokens=tokens, context=context
    )
    for count, chunks in enumerate(steps(scheduler)):
        assert 0 < sum(chunk.end - chunk.begin for chunk in chunks) <= tokens
        assert len({chunk.sequence.owner for chunk in chunks}) == len(chunks) <= running
        assert count < 5000
    assert all(len(one.tokens) == one.most for one in sequences)
    assert pool.free == pool.count


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=8), st.integers(10, 24))
def test_chunks_follow_on_each_other_and_lie_in_blocks_of_their_own(
    sizes: list[tuple[int, int]], blocks: int
) -> None:
    sequences = [sequence(number, *size) for number, size in enumerate(sizes)]
    scheduler, _ = scheduler_of(*sequences, blocks=blocks)
    while len(scheduler):
        chunks = scheduler.schedule()
        held = [block for chunk in chunks for block in chunk.sequence.blocks]
        assert len(set(held)) == len(held)  # no two of these share tokens
        for chunk in chunks:
            assert chunk.begin == chunk.sequence.computed < chunk.end
            assert len(chunk.sequence.blocks) * SIZE >= chunk.end
            scheduler.done(chunk)
            if chunk.last:
                chunk.sequence.tokens.append(7)
                if len(chunk.sequence.tokens) == chunk.sequence.most:
                    scheduler.remove(chunk.sequence)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), max_size=8),
    st.integers(10, 24),
    st.integers(1, 4),
    st.integers(4, 40),
    st.sets(st.tuples(st.integers(0, 7), st.integers(1, 20))),
)
def test_lending_ahead_changes_no_step(
    sizes: list[tuple[int, int]],
    blocks: int,
    running: int,
    tokens: int,
    leaving: set[tuple[int, int]],
) -> None:
    """Where no beginning is shared: a block that is lent too early may be one that is found."""

    def run(*, ahead: bool) -> Iterator[tuple[list[tuple[int, int, int]], int]]:
        sequences = [sequence(number, *size) for number, size in enumerate(sizes)]
        scheduler, _ = scheduler_of(
            *sequences, blocks=blocks, running=running, tokens=tokens, share=False, ahead=ahead
        )
        for count, chunks in enumerate(steps(scheduler)):
            yield told(chunks), scheduler.preempted
            for number, one in enumerate(sequences):
                if (number, count) in leaving:
                    scheduler.remove(one)

    assert list(run(ahead=True)) == list(run(ahead=False))


class TestASchedule:
    def test_computes_a_long_prompt_in_parts_and_keeps_nobody_waiting(self) -> None:
        scheduler, _ = scheduler_of(sequence(0, 5), sequence(1, 30), tokens=8)
        assert told(step(scheduler)) == [(0, 0, 5), (1, 0, 3)]
        assert told(step(scheduler)) == [(0, 5, 6), (1, 3, 10)]
        assert told(step(scheduler)) == [(0, 6, 7), (1, 10, 17)]

    def test_takes_fewer_tokens_of_a_prompt_that_has_many_to_attend_to(self) -> None:
        scheduler, _ = scheduler_of(sequence(0, 5), sequence(1, 30), tokens=9, context=4)
        assert told(step(scheduler)) == [(0, 0, 5), (1, 0, 4)]
        assert told(step(scheduler)) == [(0, 5, 6), (1, 4, 8)]  # each counts for two
        assert told(step(scheduler)) == [(0, 6, 7), (1, 8, 10)]  # for three

    def test_takes_as_many_as_fit_while_nobody_waits_for_the_next_token(self) -> None:
        scheduler, _ = scheduler_of(sequence(1, 20), tokens=8, context=4)
        assert told(step(scheduler)) == [(1, 0, 8)]
        assert told(step(scheduler)) == [(1, 8, 16)]

    def test_serves_who_came_first_first(self) -> None:
        scheduler, _ = scheduler_of(*(sequence(number, 4) for number in range(3)), running=2)
        assert told(step(scheduler)) == [(0, 0, 4), (1, 0, 4)]

    def test_lets_a_large_prompt_that_waits_for_memory_not_be_overtaken(self) -> None:
        scheduler, _ = scheduler_of(
            sequence(0, 8, 8), sequence(1, 16), sequence(2, 1), blocks=5, tokens=64
        )
        assert told(step(scheduler)) == [(0, 0, 8)]
        assert told(step(scheduler)) == [(0, 8, 9)]

    def test_takes_memory_from_who_came_last_and_computes_it_again(self) -> None:
        first, second = sequence(0, 8, 4), sequence(1, 8, 4)
        scheduler, pool = scheduler_of(first, second, blocks=5, tokens=64)
        assert told(step(scheduler)) == [(0, 0, 8), (1, 0, 8)]
        assert told(step(scheduler)) == [(0, 8, 9)]  # takes the last block, and one is missing
        assert second.blocks == []
        for _ in steps(scheduler):
            pass
        assert len(second.tokens) == second.most
        assert pool.free == pool.count

    def test_lends_the_next_token_s_block_ahead_but_none_behind_the_last_token(self) -> None:
        one, last = sequence(0, 8, 2), sequence(1, 8, 1)
        scheduler, _ = scheduler_of(one, last, ahead=True)
        scheduler.schedule()
        assert [len(each.blocks) for each in (one, last)] == [3, 2]

    def test_takes_no_memory_from_others_to_lend_ahead(self) -> None:
        first, second = sequence(0, 8, 4), sequence(1, 4, 4)
        scheduler, pool = scheduler_of(first, second, blocks=3, ahead=True)
        assert told(scheduler.schedule()) == [(0, 0, 8), (1, 0, 4)]
        assert [len(one.blocks) for one in (first, second)] == [2, 1]
        assert pool.free == 0

    def test_finds_a_beginning_that_another_has_computed(self) -> None:
        scheduler, _ = scheduler_of(Sequence(0, [1] * 10, 11))
        step(scheduler)
        late = Sequence(1, [1] * 9 + [2] * 3, 13)
        scheduler.add(late)
        assert told(step(scheduler)) == [(1, 8, 12)]
        assert late.cached == 8

    def test_computes_the_last_token_of_a_prompt_that_is_known_as_a_whole(self) -> None:
        scheduler, _ = scheduler_of(Sequence(0, [1] * 8, 9))
        step(scheduler)
        scheduler.add(Sequence(1, [1] * 8, 9))
        assert told(step(scheduler)) == [(1, 4, 8)]

    def test_of_nothing_is_empty(self) -> None:
        assert scheduler_of()[0].schedule() == []

    def test_forgets_who_leaves_in_whatever_state(self) -> None:
        runs, waits = sequence(0, 4), sequence(1, 4)
        scheduler, pool = scheduler_of(runs, waits, running=1)
        step(scheduler)
        for one in (waits, runs):
            scheduler.remove(one)
        assert len(scheduler) == 0
        assert pool.free == pool.count
