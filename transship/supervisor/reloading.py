"""Reloads components one by one with the current code and settings, without losing an import or a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from config.settings import Settings
from transship.domain.errors import ConfigurationRefused, NotReloaded, StartFailed
from transship.supervisor.component import Component, Renewal
from transship.supervisor.liveness import stalled
from transship.supervisor.slot import Slot

FIXED: Final = (
    "home",
    "host_name",
    "api.host",
    "api.port",
    "database.url",
    "database.secret_key",
    "prefect.host",
    "prefect.port",
    "prefect.api_url",
    "prefect.auth_string",
    "prefect.database_url",
    "prefect.work_pool",
    "staging.dir",
)
"""Options on which all processes must agree, so they cannot change for one process after another."""


def refuse_fixed_changes(before: Settings, after: Settings) -> None:
    """Refuse changes of settings that a reload cannot apply.

    Raises:
        ConfigurationRefused: a setting has changed that running processes cannot adopt one by one.
    """
    changed = [option for option in FIXED if _value(before, option) != _value(after, option)]
    if changed:
        remedy = "'transship down' and 'transship up' put it in force"
        raise ConfigurationRefused("reload", ", ".join(changed), "cannot change while anything runs", remedy)


def _value(settings: Settings, option: str) -> Any:
    value: Any = settings
    for name in option.split("."):
        value = getattr(value, name)
    return value


class ReloadHost(Protocol):
    """The supervisor's interface for a reload.

    Attributes:
        slots: the current slots, in the order of a reload.
        beside: additional slots: successors that are not up yet, and predecessors that finish their work.
    """

    slots: list[Slot]
    beside: set[Slot]

    def launch(self, slot: Slot) -> None:
        """Start a component and keep it running."""

    async def end(self, slot: Slot) -> None:
        """Stop a component."""

    async def stall(self, slot: Slot) -> None:
        """Wait until a component has shown no sign of life for too long."""


class Reload:
    """One reload.

    Args:
        house: the supervisor.
        limit_s: how long a component may show no sign of life, for display.
        log_dir: directory of the log files, for display.

    Attributes:
        done: the result for each component so far, for display.
    """

    def __init__(self, house: ReloadHost, limit_s: float, log_dir: Path) -> None:
        self._house, self._limit_s, self._log_dir = house, limit_s, log_dir
        self.done: list[str] = []

    async def run(self, replan: Callable[[], Sequence[Component]]) -> bool:
        """Renew one component after another; if one fails, the remaining ones are not changed.

        Args:
            replan: returns the current process table; refuses invalid settings.

        Returns:
            Whether all components were renewed.
        """
        try:
            table = {component.name: component for component in replan()}
        except ConfigurationRefused as refused:
            self.done.append(f"nothing was reloaded: {refused}")
            return False
        for slot in list(self._house.slots):
            component = table[slot.component.name]
            try:
                self.done.append(f"{component.name}: {await self._renew(slot, component)}")
            except (StartFailed, NotReloaded) as failure:
                self.done.append(str(failure))
                self.done.append("the components after it were not reloaded; fix the problem and reload again")
                return False
        return True

    async def _renew(self, slot: Slot, component: Component) -> str:
        same = slot.component.starts_as(component)
        if component.once:
            return await self._run_again(slot, component)
        match component.renewal:
            case Renewal.REPLACE:
                return await self._replace(slot, component)
            case Renewal.SIGNAL if same:
                return await self._signal(slot, component)
            case Renewal.KEEP if same:
                slot.component = component
                return "keeps running; its start options have not changed"
            case _:
                return await self._restart(slot, component)

    async def _run_again(self, slot: Slot, component: Component) -> str:
        successor = self._put(slot, component)
        try:
            await self._bring_up(successor)
        except StartFailed:
            # Unlike a required component, a successor is not restarted forever.
            await self._house.end(successor)
            raise
        return "run again"

    async def _restart(self, slot: Slot, component: Component) -> str:
        await self._house.end(slot)
        await self._bring_up(self._put(slot, component))
        return "restarted"

    async def _replace(self, slot: Slot, component: Component) -> str:
        successor = Slot(component, sockets=slot.sockets)
        self._house.beside.add(successor)
        try:
            await self._bring_up(successor)
        except StartFailed:
            await self._house.end(successor)
            self._house.beside.discard(successor)
            raise
        self._house.beside.discard(successor)
        self._house.slots[self._house.slots.index(slot)] = successor
        self._leave(slot)
        return "replaced; the old process ends after its last request"

    def _leave(self, slot: Slot) -> None:
        slot.stopping.set()
        if slot.keeper is None or slot.keeper.done():
            return
        if slot.child is None:
            slot.keeper.cancel()
            return
        self._house.beside.add(slot)
        slot.keeper.add_done_callback(lambda _: self._house.beside.discard(slot))
        slot.child.hang_up()

    async def _signal(self, slot: Slot, component: Component) -> str:
        slot.component = component
        if slot.child is None:
            return "is not running; it reads them when it is restarted"
        slot.said_ready.clear()
        slot.died.clear()
        slot.child.hang_up()
        await self._first_of(slot, slot.said_ready, slot.died)
        if not slot.said_ready.is_set():
            raise StartFailed(component.name, self._why(slot), self._log_dir)
        if slot.complaint:
            raise NotReloaded(component.name, slot.complaint, self._log_dir)
        return "new imports get new processes; running ones continue unchanged"

    def _put(self, slot: Slot, component: Component) -> Slot:
        successor = Slot(component, sockets=slot.sockets)
        self._house.slots[self._house.slots.index(slot)] = successor
        return successor

    async def _bring_up(self, slot: Slot) -> None:
        self._house.launch(slot)
        await self._first_of(slot, slot.up, slot.died)
        if not slot.up.is_set():
            raise StartFailed(slot.component.name, self._why(slot), self._log_dir)

    def _why(self, slot: Slot) -> str:
        return slot.last_exit if slot.died.is_set() else stalled(self._limit_s)

    async def _first_of(self, slot: Slot, *events: asyncio.Event) -> None:
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait()) for event in events]
        waits.append(asyncio.create_task(self._house.stall(slot)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
