"""The load generators: wrk over HTTP, pgbench into the database."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imi.database.cluster import wheel
from tests.bench.operations import Data, Operation

HERE = Path(__file__).parent


class BenchError(Exception):
    """Why nothing can be measured, as one sentence."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One short round of one contender: requests a second, latencies in milliseconds."""

    rate: float
    p50: float
    p95: float
    p99: float


def wrk(url: str, operation: str, data: Data, key: str, connections: int, seconds: int) -> Sample:
    """One thread, `connections` kept open, each sending its next request when it has its answer. Raises BenchError."""
    program = shutil.which("wrk")
    if program is None:
        raise BenchError("wrk is missing: sudo apt-get install wrk")
    command = [
        program,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout=10s",
        "-H",
        f"Authorization: Bearer {key}",
    ]
    command += ["-s", str(HERE / "load.lua"), url, "--", operation, str(data.projects), str(data.busy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if done.returncode or line is None:
        raise BenchError(f"wrk failed at {operation}: {done.stderr or done.stdout}")
    found = json.loads(line.removeprefix("RESULT "))
    if found["failed"]:
        raise BenchError(f"{found['failed']} of {found['requests']} requests of {operation} at {url} failed")
    return Sample(found["requests"] / found["seconds"], found["p50"], found["p95"], found["p99"])


def pgbench(url: str, operation: Operation, data: Data, connections: int, seconds: int) -> Sample:
    """The operation's function, called as prepared statement. Raises BenchError."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.sql")
        script.write_text(operation.script)
        command = [
            str(wheel() / "bin/pgbench"),
            "--no-vacuum",
            "--protocol=prepared",
            "--log",
            "--log-prefix=times",
        ]
        command += [f"--client={connections}", f"--time={seconds}", f"--file={script}"]
        command += [f"--define=projects={data.projects}", f"--define=busy={data.busy}", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode or "tps = " not in done.stdout:
            raise BenchError(f"pgbench failed at {operation.name}: {done.stderr.partition(chr(10))[0]}")
        rate = float(done.stdout.rpartition("tps = ")[2].split()[0])
        lines = next(Path(folder).glob("times.*")).read_text().splitlines()
    times = sorted(int(line.split(" ", 3)[2]) / 1000 for line in lines)
    return Sample(rate, *(times[int(len(times) * part)] for part in (0.5, 0.95, 0.99)))
