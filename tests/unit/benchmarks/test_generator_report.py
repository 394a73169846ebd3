"""What is told of the speeds."""

import json

from benchmarks.generator_report import Findings
from benchmarks.speed import Speed

SPEEDS = {
    "segue": {1: Speed(40.0, 30.0, 25.0, 26.0), 8: Speed(200.0, 60.0, 40.0, 50.0)},
    "vllm float32": {1: Speed(10.0), 8: Speed(60.0)},
    "vllm bfloat16": {1: Speed(20.04), 8: Speed(30.0)},
    "linear_bound": {1: Speed(60.0), 8: Speed(300.0)},
}
FINDINGS = Findings(SPEEDS, gaps_without=[0.1] * 200, gaps_during=[0.1] * 100 + [0.3] * 100)


def test_json_tells_the_faster_type_of_vllm_at_each_number_of_streams() -> None:
    assert json.loads(FINDINGS.to_json()) == {
        "tokens_per_second": {
            "1": {"segue": 40.0, "vllm": 20.0, "linear_bound": 60.0},
            "8": {"segue": 200.0, "vllm": 60.0, "linear_bound": 300.0},
        },
        "long_prompt_gap_ratio": 3.0,
    }


def test_a_row_tells_how_many_times_as_fast_segue_is() -> None:
    speeds, gaps = FINDINGS.tables()
    columns = {str(column.header): list(column.cells) for column in speeds.columns}
    assert columns["streams"] == ["1", "", "", "", "8", "", "", ""]
    assert columns["Segue is x"][:4] == ["1.00", "4.00", "2.00", "0.67"]
    assert gaps.row_count == 2


def test_the_plots_have_a_line_for_each() -> None:
    lines = FINDINGS.draw().data
    assert len(lines) == 3 * len(SPEEDS)
    assert list(lines[0].y) == [40.0, 200.0]


def test_a_typical_speed_is_the_median_of_what_is_known() -> None:
    speeds = [Speed(1.0, gap_p50_ms=5.0), Speed(9.0, gap_p50_ms=7.0), Speed(2.0)]
    assert Speed.typical(speeds) == Speed(2.0, gap_p50_ms=6.0)
