"""External programs under limits, with real programs."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from transship.domain.errors import ImportCancelled
from transship.domain.stop import StopToken
from transship.plugins import limited_command
from transship.plugins.limited_command import KEPT_BYTES, Limits, run_limited

MIB = 1024 * 1024
ROOMY = Limits(cpu_s=20, memory_bytes=1024 * MIB, file_bytes=MIB, wall_s=300.0)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def ended(pid_descriptor: int) -> bool:
    """Wait until the process behind the descriptor has ended, at most a minute, and close it."""
    ready, _, _ = select.select([pid_descriptor], [], [], 60)
    os.close(pid_descriptor)
    return bool(ready)


def test_a_program_tells_its_end_and_its_words() -> None:
    finished = run_limited(shell("echo out; echo err >&2; exit 3"), ROOMY, StopToken())
    assert (finished.code, finished.stdout, finished.stderr, finished.cut_short) == (3, b"out\n", b"err\n", "")


def test_a_program_sees_a_minimal_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSSHIP_DATABASE__SECRET_KEY", "very secret")
    finished = run_limited(["/usr/bin/env"], ROOMY, StopToken())
    assert b"secret" not in finished.stdout
    assert b"LC_ALL=C" in finished.stdout


def test_words_can_be_taken_as_they_come() -> None:
    taken: list[bytes] = []
    finished = run_limited(shell("echo one; echo two"), ROOMY, StopToken(), taken.append)
    assert (b"".join(taken), finished.stdout) == (b"one\ntwo\n", b"")


def test_a_program_that_takes_too_long_is_ended() -> None:
    finished = run_limited(["/bin/sleep", "60"], Limits(20, 1024 * MIB, 0, 0.2), StopToken())
    assert (finished.code, finished.cut_short) == (-signal.SIGKILL, "it took longer than 0.2 s")


def test_a_program_that_closes_its_words_and_lives_on_is_ended() -> None:
    finished = run_limited(shell("exec sleep 60 >&- 2>&-"), Limits(20, 1024 * MIB, 0, 0.3), StopToken())
    assert finished.code == -signal.SIGKILL


def test_a_program_that_prints_without_end_is_ended() -> None:
    finished = run_limited(["/usr/bin/yes"], ROOMY, StopToken())
    assert finished.cut_short == "it printed more than can be made use of"
    assert len(finished.stdout) <= KEPT_BYTES


def test_a_program_cannot_use_more_cpu_time() -> None:
    finished = run_limited(shell("while :; do :; done"), Limits(1, 1024 * MIB, 0, 300.0), StopToken())
    assert finished.code in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL)


def test_a_program_cannot_write_a_longer_file(tmp_path: Path) -> None:
    target = tmp_path / "long"
    finished = run_limited(
        ["/bin/dd", "if=/dev/zero", f"of={target}", "bs=1M", "count=5"],
        Limits(20, 1024 * MIB, 2 * MIB, 300.0),
        StopToken(),
    )
    assert finished.code == -signal.SIGXFSZ
    assert target.stat().st_size == 2 * MIB


def test_a_program_cannot_use_more_memory() -> None:
    finished = run_limited([sys.executable, "-c", "bytearray(512 << 20)"], Limits(20, 256 * MIB, 0, 300.0), StopToken())
    assert finished.code != 0


def test_a_stopped_import_ends_the_program_and_its_children() -> None:
    stop = StopToken()
    watches: list[int] = []

    def stop_when_both_run(text: bytes) -> None:
        watches.extend(os.pidfd_open(int(each)) for each in text.split())
        stop.stop(ImportCancelled("by the test"))

    with pytest.raises(ImportCancelled):
        run_limited(shell("sleep 60 & echo $$ $!; wait"), ROOMY, stop, stop_when_both_run)
    assert [ended(each) for each in watches] == [True, True]


def test_a_program_does_not_outlive_us() -> None:
    script = (
        "import os, sys\n"
        "from transship.plugins.limited_command import Limits, run_limited\n"
        "from transship.domain.stop import StopToken\n"
        "run_limited(['/bin/sh', '-c', 'echo $$; exec sleep 60'], Limits(9, 1 << 30, 0, 60.0), StopToken(),\n"
        "            lambda text: os.write(1, text))\n"
    )
    root = Path(limited_command.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=root) as ours:
        assert ours.stdout is not None
        program = int(ours.stdout.readline())
        watch = os.pidfd_open(program)
        ours.kill()
        ours.wait()
    assert ended(watch)
