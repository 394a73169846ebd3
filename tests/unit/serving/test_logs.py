import json
import logging
import sys

from serving.context import REQUEST_ID_KEY, adopt_request_id, outgoing_metadata
from serving.logs import JsonFormatter


def formatted(message: str, **extra: object) -> dict[str, object]:
    record = logging.getLogger("test").makeRecord(
        "test", logging.INFO, __file__, 1, message, (), None, extra=extra
    )
    line = JsonFormatter("Gateway").format(record)
    assert "\n" not in line
    parsed: dict[str, object] = json.loads(line)
    return parsed


def test_a_log_line_is_one_json_object_with_the_extra_fields() -> None:
    line = formatted("rpc", method="x/Y", ms=1.5)
    assert line["message"] == "rpc"
    assert (line["service"], line["method"], line["ms"]) == ("Gateway", "x/Y", 1.5)


def test_a_log_line_tells_the_request_that_it_is_about() -> None:
    adopt_request_id([(REQUEST_ID_KEY, "abc-1")])
    assert formatted("rpc")["request_id"] == "abc-1"


def test_an_exception_stays_on_the_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("t", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    assert "two\\nlines" in JsonFormatter("Gateway").format(record)


def test_a_request_id_goes_on_to_the_services_behind() -> None:
    adopt_request_id([(REQUEST_ID_KEY, "abc-2")])
    assert outgoing_metadata() == ((REQUEST_ID_KEY, "abc-2"),)


def test_a_request_id_that_could_forge_log_lines_is_replaced() -> None:
    assert adopt_request_id([(REQUEST_ID_KEY, 'x" injected\n')]).isalnum()
