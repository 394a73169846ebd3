"""The services behind the gateway: one channel each."""

from typing import TYPE_CHECKING

from segue.generator.v1 import generator_service_pb2, generator_service_pb2_grpc
from segue.recommender.v1 import recommender_service_pb2, recommender_service_pb2_grpc

from gateway.settings import GatewaySettings
from serving.channels import open_channel

if TYPE_CHECKING:  # these classes stand in the type stubs only
    from segue.generator.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub
    from segue.recommender.v1.recommender_service_pb2_grpc import RecommenderServiceAsyncStub

_RECOMMENDER = recommender_service_pb2.DESCRIPTOR.services_by_name["RecommenderService"]
_GENERATOR = generator_service_pb2.DESCRIPTOR.services_by_name["GeneratorService"]


class Backends:
    """Owns the channels; opened on the event loop that uses them, and closed once."""

    def __init__(self, settings: GatewaySettings) -> None:
        limit = settings.max_message_bytes
        self._channels = [
            open_channel(settings.recommender, _RECOMMENDER.full_name, limit),
            open_channel(settings.generator, _GENERATOR.full_name, limit),
        ]
        self.recommender: RecommenderServiceAsyncStub
        self.generator: GeneratorServiceAsyncStub
        self.recommender = recommender_service_pb2_grpc.RecommenderServiceStub(self._channels[0])
        self.generator = generator_service_pb2_grpc.GeneratorServiceStub(self._channels[1])

    def connect(self) -> None:
        """Begin to connect, so that the first request need not wait for it."""
        for channel in self._channels:
            channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        """Close the channels; calls that still run are cancelled."""
        for channel in self._channels:
            await channel.close()
