"""What engines promise beside that whose model runs in this process; their classes inherit it."""

import pytest

from services.generator.engine.interface import FinishReason, GenerationError
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import EngineSuite, collect, ending, request


class InProcessSuite(EngineSuite):
    """An engine with processes of its own loses them all when its model fails."""

    async def test_a_failing_model_fails_its_request_and_no_other(
        self, tiny_llama: LoadedModel
    ) -> None:
        def fail() -> None:
            raise RuntimeError("out of luck")

        async with self.engine(tiny_llama) as engine:
            with self.led(tiny_llama, fail), pytest.raises(GenerationError):
                await collect(engine, request())
            assert ending(await collect(engine, request())).reason is FinishReason.LENGTH
