from services.generator.engine.interface import Engine
from services.generator.engine.reference import ReferenceEngine
from services.generator.models import LoadedModel
from tests.unit.generator.embedding_suite import EmbeddingSuite
from tests.unit.generator.in_process_suite import InProcessSuite
from tests.unit.generator.logprobs_suite import LogprobsSuite
from tests.unit.generator.transformers_suite import PipelineSuite


class TestReferenceEngine(InProcessSuite, PipelineSuite, EmbeddingSuite, LogprobsSuite):
    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 1) -> Engine:
        return ReferenceEngine(loaded, max_waiting)
