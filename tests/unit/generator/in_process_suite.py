"""What engines promise beside that whose model runs in this process; their classes inherit it."""

from typing import Any

import pytest

from services.generator.engine.interface import FinishReason, GenerationError
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import EngineSuite, collect, ending, request


class InProcessSuite(EngineSuite):
    """An engine with processes of its own loses them all when its model fails."""

    async def test_a_failing_model_fails_its_request_and_no_other(
        self, tiny_llama: LoadedModel
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("out of luck")

        async with self.engine(tiny_llama) as engine:
            hook = tiny_llama.model.register_forward_hook(fail)
            with pytest.raises(GenerationError):
                await collect(engine, request())
            hook.remove()
            assert ending(await collect(engine, request())).reason is FinishReason.LENGTH
