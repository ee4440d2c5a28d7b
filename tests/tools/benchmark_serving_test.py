"""The load test of servers: percentiles, counts and errors by hand, and a whole command against a stand-in."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cut_tf.common.errors import InputError
from tests import warm_process
from tools.benchmark import serving
from tools.plots.results import Load, read_rows

ROOT = Path(__file__).parents[2]


class _Server:
    """Answers at once; fails every third request."""

    def __init__(self) -> None:
        self.pictures: list[bytes] = []
        self._lock = threading.Lock()

    def translate(self, picture: bytes, what: str) -> bytes:
        with self._lock:
            self.pictures.append(picture)
            if len(self.pictures) % 3 == 0:
                raise InputError("RESOURCE_EXHAUSTED: the queue is full")
        return b""


def test_percentiles_rates_and_errors_are_those_of_the_clock():
    """One at a time, by a clock that moves as it is read: request n takes n seconds, every third one fails."""
    times = iter([0.0, *(value for n in range(1, 8) for value in (100.0 * n, 100.0 * n + n)), 700.0])
    found = serving.measure(_Server(), [b"a"], parallel=1, requests=7, clock=lambda: next(times))
    assert (found["requests"], found["errors"]) == (7, 2) and "queue is full" in found["first_error"]
    # Answered in 1, 2, 4, 5 and 7 s.
    assert found["p50_ms"] == pytest.approx(4000) and found["p90_ms"] == pytest.approx(6200)
    assert found["images_per_sec"] == pytest.approx(5 / 700)


def test_rows_are_sizes_times_parallelism_and_mixed_sizes_take_turns():
    server = _Server()
    rows = list(serving.rows(server, [16, 32], [1, 3], requests=4))
    assert [(row["size_px"], row["parallel"]) for row in rows] == [
        ("16", 1), ("16", 3), ("32", 1), ("32", 3), ("mixed", 1), ("mixed", 3)]
    assert len(server.pictures) == 2 + 6 * 4
    mixed = server.pictures[-8:-4]
    assert mixed[0] == mixed[2] != mixed[1] == mixed[3] and all(picture[:2] == b"\xff\xd8" for picture in mixed)
    assert "failed: RESOURCE_EXHAUSTED" in serving.line(max(rows, key=lambda row: row["errors"]))


def test_a_server_that_never_answers_has_no_percentiles():
    class Silent:
        def translate(self, picture: bytes, what: str) -> bytes:
            raise InputError("DEADLINE_EXCEEDED")

    row = {"size_px": "16", "parallel": 1, **serving.measure(Silent(), [b"a"], 1, 2)}
    assert row["p50_ms"] is None and row["images_per_sec"] == 0 and "no answer" in serving.line(row)


def test_rows_are_recorded_for_the_plots(tmp_path):
    rows = list(serving.rows(_Server(), [16], [1, 2], requests=5))
    silent = {"size_px": "16", "parallel": 4, "requests": 2, "errors": 2, "first_error": "", "images_per_sec": 0.0,
              "p50_ms": None, "p90_ms": None, "p99_ms": None}
    path = tmp_path / "new" / "load.csv"
    path.parent.mkdir()
    assert list(serving.recorded([*rows, silent], path)) == [*rows, silent]
    found = read_rows(path, Load)
    assert [(load.size_px, load.parallel, load.requests, load.errors) for load in found] == [
        ("16", 1, 5, rows[0]["errors"]), ("16", 2, 5, rows[1]["errors"])]
    assert [load.p99_ms for load in found] == pytest.approx([row["p99_ms"] for row in rows], abs=1e-4)
    with pytest.raises(InputError, match="--csv=.*none.csv must hold what was answered, found that all requests"):
        list(serving.recorded([silent], tmp_path / "none.csv"))
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_the_command_measures_a_stand_in(protocol):
    pytest.importorskip("tensorflow_serving.apis", reason="the extra serving (tensorflow-serving-api) is not installed")
    from tests.client import stand_in_servers

    models = stand_in_servers.ModelFolders({"dehaze_mobile": ROOT / "saved_models" / "dehaze_mobile"})
    serve = stand_in_servers.grpc_server if protocol == "grpc" else stand_in_servers.rest_server
    try:
        with serve(models) as server:
            done = warm_process.run(["-m", "tools.benchmark", "serving", f"--server={server}", f"--protocol={protocol}",
                                     "--sizes_px=32,48", "--parallel=1,2", "--requests=4", "--json"], ROOT)
    finally:
        models.close()
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 6 and all(row["errors"] == 0 and row["p50_ms"] > 0 for row in rows)
