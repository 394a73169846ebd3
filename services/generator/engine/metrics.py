"""Prometheus metrics of an engine, under vLLM's names, so that its users' dashboards fit."""

from prometheus_client import Counter, Gauge, Histogram

from services.generator.engine.interface import Finished

_LABELS = ("model_name",)
_SECONDS = (*(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1), *(0.25, 0.5, 1, 2.5, 5, 10, 30, 60))

_RUNNING = Gauge(
    "vllm:num_requests_running", "Texts that grow.", _LABELS, multiprocess_mode="livesum"
)
_WAITING = Gauge(
    "vllm:num_requests_waiting",
    "Requests that wait for the model.",
    _LABELS,
    multiprocess_mode="livesum",
)
_KV_USE = Gauge(
    "vllm:kv_cache_usage_perc",
    "Share of the memory for keys and values that is held, 0 to 1.",
    _LABELS,
    multiprocess_mode="livemax",
)
_PREEMPTIONS = Counter(
    "vllm:num_preemptions", "Times that a text lost its memory and was computed again.", _LABELS
)
_PREFIX_QUERIES = Counter(
    "vllm:prefix_cache_queries", "Tokens of prompts that were looked for in the cache.", _LABELS
)
_PREFIX_HITS = Counter(
    "vllm:prefix_cache_hits", "Tokens of prompts that were found in the cache.", _LABELS
)
_PROMPT_TOKENS = Counter("vllm:prompt_tokens", "Tokens of prompts.", _LABELS)
_GENERATED_TOKENS = Counter("vllm:generation_tokens", "Tokens generated.", _LABELS)
_FINISHED = Counter(
    "vllm:request_success", "Texts ended, by reason.", (*_LABELS, "finished_reason")
)
_FAILED = Counter("segue_generations_failed", "Texts that the model failed on.", _LABELS)
_QUEUE_TIME = Histogram(
    "vllm:request_queue_time_seconds", "Time spent waiting.", _LABELS, buckets=_SECONDS
)
_FIRST_TOKEN = Histogram(
    "vllm:time_to_first_token_seconds",
    "Time from the request to its first token.",
    _LABELS,
    buckets=_SECONDS,
)
_BETWEEN_TOKENS = Histogram(
    "vllm:inter_token_latency_seconds",
    "Time from one token of a text to the next.",
    _LABELS,
    buckets=_SECONDS,
)


class EngineMetrics:
    """The metrics of one model's engine."""

    def __init__(self, model: str) -> None:
        self.running = _RUNNING.labels(model)
        self.waiting = _WAITING.labels(model)
        self.kv_use = _KV_USE.labels(model)
        self.preemptions = _PREEMPTIONS.labels(model)
        self.prefix_queries = _PREFIX_QUERIES.labels(model)
        self.prefix_hits = _PREFIX_HITS.labels(model)
        self.generated_tokens = _GENERATED_TOKENS.labels(model)
        self.between_tokens = _BETWEEN_TOKENS.labels(model)
        self.failed = _FAILED.labels(model)
        self._model = model
        self._prompt_tokens = _PROMPT_TOKENS.labels(model)
        self._queue_time = _QUEUE_TIME.labels(model)
        self._first_token = _FIRST_TOKEN.labels(model)

    def finished(self, end: Finished) -> None:
        """Note how a text ended."""
        _FINISHED.labels(self._model, end.reason.name.lower()).inc()
        self._prompt_tokens.inc(end.prompt_tokens)
        self._queue_time.observe(end.queued_s)
        if end.first_token_s is not None:
            self._first_token.observe(end.first_token_s)
