from services.generator.engine.interface import Engine
from services.generator.engine.scheduler import Limits
from services.generator.engine.torch_engine import TorchEngine
from services.generator.models import LoadedModel
from tests.unit.generator.engine_suite import EngineSuite


class TestTorchEngine(EngineSuite):
    def make(self, loaded: LoadedModel, *, max_waiting: int = 16, max_running: int = 8) -> Engine:
        return TorchEngine(loaded, max_waiting, limits=Limits(running=max_running))
