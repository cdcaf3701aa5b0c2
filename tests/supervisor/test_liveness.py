"""A starting component fails when it shows no sign of life, not after a fixed time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from config.settings import Settings
from tests.fakes.supervised import supervised, told
from tests.fakes.system import until
from transship.supervisor.child import Child
from transship.supervisor.component import Component
from transship.supervisor.liveness import IDLE_SHARE, Silence, Vitals
from transship.supervisor.output import Output
from transship.supervisor.slot import Slot
from transship.supervisor.status import SupervisorStatus, read_status
from transship.supervisor.supervisor import RELOAD_SIGNAL, Plan, Supervisor

LIMIT_S = 180.0


def after(silence: Silence, looks: Iterable[Vitals], elapsed_s: float = 1.0) -> Silence:
    """Return the silence after some looks, one a second."""
    for vitals in looks:
        silence = silence.after(vitals, elapsed_s, LIMIT_S)
    return silence


def test_a_component_that_does_nothing_is_silent_for_as_long_as_it_is_looked_at() -> None:
    still = Vitals(1, 3, 0.7)
    assert after(Silence(still), [still] * 200) == Silence(still, 200.0)


@pytest.mark.parametrize(
    "sign", [Vitals(2, 3, 0.7), Vitals(1, 4, 0.7), Vitals(1, 3, 0.7 + IDLE_SHARE * LIMIT_S + 0.01)], ids=repr
)
def test_output_cpu_time_and_a_new_start_end_a_silence(sign: Vitals) -> None:
    still = Vitals(1, 3, 0.7)
    assert after(Silence(still, 179.0), [sign]) == Silence(sign)


def test_a_component_that_gets_little_of_a_busy_machine_is_never_silent_for_long() -> None:
    looks = [Vitals(1, 0, 0.01 * second) for second in range(3600)]
    longest = max(after(Silence(looks[0]), looks[:seconds]).lasted_s for seconds in range(1, 3600, 7))
    assert longest < LIMIT_S


def test_a_component_that_only_looks_at_its_clock_is_silent() -> None:
    # An event loop without work: 10 ms of CPU time each four seconds.
    looks = [Vitals(1, 0, second // 4 * 0.01) for second in range(181)]
    assert after(Silence(looks[0]), looks).lasted_s >= LIMIT_S


class _Scripted(Slot):
    """A slot that shows signs of life for a number of looks, and none after them."""

    signs, looks = 0, 0

    def vitals(self) -> Vitals:
        self.looks += 1
        return Vitals(1, min(self.looks, self.signs), 0.0)


def test_the_supervisor_waits_for_as_long_as_there_are_signs_of_life(tmp_path: Path) -> None:
    slot = _Scripted(Component("slow", (), {}))
    slot.signs = 40
    output = Output(tmp_path, 1000, 0, lambda component, line: None)

    async def wait() -> None:
        plan = Plan((), tmp_path, tmp_path / "status.json", start_timeout_s=0.1)
        await Supervisor(plan, output, lambda: None, lambda: ()).stall(slot)

    asyncio.run(wait())
    # Ten looks make the limit: before the signs had ended, four limits were over.
    assert slot.looks > slot.signs


def test_cpu_time_of_what_a_component_has_started_counts(tmp_path: Path) -> None:
    script = "bash -c 'while :; do :; done' & wait"
    slot = Slot(Component("parent", ("bash", "-c", script), dict(os.environ)))
    slot.child = Child.start(slot.component, tmp_path)
    try:
        until(lambda: slot.vitals().cpu_s > 0.5, what="CPU time of the child")
    finally:
        slot.child.kill()
        assert asyncio.run(slot.child.follow(lambda line: None)) < 0
    assert slot.vitals().cpu_s == 0.0


# --- the supervisor itself ---------------------------------------------------------------------

SLOW = "for step in {1..30}; do echo step $step; sleep 0.1; done"
"""Three seconds and more, with a sign of life every tenth of one."""


impatient = partial(supervised, supervisor={"start_timeout_s": 2.0})
"""Each component may be without signs of life for two seconds."""


@pytest.mark.faults
def test_a_start_and_a_reload_that_make_progress_are_not_given_up(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path / "home"})
    with impatient(settings.home, {"name": "slow", "argv": ["bash", "-c", SLOW], "once": True}) as process:
        told(process, "ready after")

        def status() -> SupervisorStatus:
            found = read_status(settings.run_dir / "status.json")
            assert found is not None
            return found

        os.kill(status().pid, RELOAD_SIGNAL)
        until(lambda: status().reloads, what="the end of the reload")
        assert (status().last_reload, status().reload_failed) == ("slow: run again", False)


@pytest.mark.faults
@pytest.mark.parametrize("once", [True, False], ids=["runs once", "has to live"])
def test_a_component_that_hangs_is_given_up_and_the_setting_is_named(tmp_path: Path, once: bool) -> None:
    hung = {"name": "hung", "argv": ["sleep", "1000"], "once": once, "health_url": "http://127.0.0.1:9/healthcheck"}
    with impatient(tmp_path / "home", hung) as process:
        line = told(process, "hung did not start")
        assert "not ready after 2 s without CPU time and output (supervisor.start_timeout_s)" in line
        assert process.wait(300) == 1
