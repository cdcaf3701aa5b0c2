"""Prefect's UI in a headless browser, used like an operator: forms, buttons, menus."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.fakes.system import until

OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    # It would look for its maker's servers.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1700",
)
PATIENCE_S: Final = 180.0
PASSING: Final = (NoSuchElementException, StaleElementReferenceException, ElementClickInterceptedException)
"""What a page says that is not painted yet."""


def browser_is_installed() -> bool:
    """Whether Debian's Chromium and its driver are here."""
    return all(shutil.which(program) for program in ("chromium", "chromedriver"))


class PrefectUi:
    """A browser that has logged in. Use as a context manager.

    Args:
        url: of the UI, without a slash at its end.
        password: what Prefect's login form asks for: ``user:password``.
        pictures: directory for screenshots.
    """

    def __init__(self, url: str, password: str, pictures: Path) -> None:
        self.url, self._password, self._pictures = url, password, pictures
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for option in OPTIONS:
            options.add_argument(option)
        # A proxy of this machine is none of the browser's business: it talks to loopback alone.
        environment = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
        service = Service(shutil.which("chromedriver"), env=environment)
        self._browser = webdriver.Chrome(options=options, service=service)

    def __enter__(self) -> Self:
        try:
            self._browser.get(f"{self.url}/v2/login")
            box = self._find("//input[@type='password']")
            box.send_keys(self._password)
            box.send_keys(Keys.ENTER)
            until(lambda: "/login" not in self._browser.current_url, PATIENCE_S, "the end of the login")
        except BaseException:
            self._browser.quit()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.picture("when it failed")
        self._browser.quit()

    def open(self, path: str) -> None:
        """Go to a page."""
        self._browser.get(f"{self.url}/v2/{path}")

    def picture(self, name: str) -> Path:
        """Take a screenshot; return its path."""
        path = self._pictures / f"{name.replace(' ', '-')}.png"
        self._browser.save_screenshot(str(path))
        return path

    def wait_for_text(self, *texts: str) -> None:
        """Wait until the page shows all of the texts."""

        def shown() -> bool:
            body = self._find("//body").text
            return all(text in body for text in texts)

        until(shown, PATIENCE_S, f"{texts} on {self._browser.current_url}")

    # --- forms of deployments ---

    def open_form(self, deployment_id: str) -> None:
        """Go to the form that starts a run of a deployment."""
        self.open(f"deployments/deployment/{deployment_id}/run")

    def fill(self, name: str, value: str | list[str] | bool) -> None:
        """Fill in one parameter: a text, a list of texts, or a switch."""
        if isinstance(value, bool):
            switch = ".//button[@role='switch']"
            if (self._within(name, switch).get_attribute("aria-checked") == "true") is not value:
                self._act(lambda: self._within(name, switch).click())
            return
        if tabs := self._field(name).find_elements(By.XPATH, ".//button[@role='tab'][normalize-space()!='None']"):
            self._act(tabs[0].click)
        if isinstance(value, str):
            self._act(lambda: self._within(name, ".//textarea|.//input[@type='text']").send_keys(value))
            return
        for number, item in enumerate(value, 1):
            self._act(lambda: self._within(name, ".//button[normalize-space()='Add item']").click())
            self._act(lambda at=number, text=item: self._within(name, f"(.//textarea)[{at}]").send_keys(text))  # type: ignore[misc]  # defaults bind the loop's values

    def submit(self) -> None:
        """Start the run, and wait until its form is left."""
        form = self._browser.current_url
        self.press("Submit")
        until(lambda: self._browser.current_url != form, PATIENCE_S, "the end of the form")

    # --- pages ---

    def press(self, text: str) -> None:
        """Press a button."""
        self._act(lambda: self._browser.find_element(By.XPATH, f"//button[normalize-space()='{text}']").click())

    def choose(self, entry: str) -> None:
        """Choose an entry of the page's menu (the three dots of its head)."""
        menu, item = "(//button[@aria-haspopup='menu'])[last()]", f"//*[@role='menuitem'][normalize-space()='{entry}']"

        def chosen() -> None:
            if not self._browser.find_elements(By.XPATH, item):
                self._browser.find_element(By.XPATH, menu).click()
            self._browser.find_element(By.XPATH, item).click()

        self._act(chosen)

    def _field(self, name: str) -> WebElement:
        label = f"//label[normalize-space()='{name}' or normalize-space()='{name} (Optional)']"
        return self._find(f"{label}/ancestor::div[fieldset][1]")

    def _within(self, name: str, path: str) -> WebElement:
        return self._field(name).find_element(By.XPATH, path)

    def _find(self, path: str) -> WebElement:
        found: WebElement = self._act(lambda: self._browser.find_element(By.XPATH, path))
        return found

    @staticmethod
    def _act(act: Callable[[], Any]) -> Any:
        """Do something as soon as the page is ready."""
        done: list[Any] = []

        def tried() -> bool:
            try:
                done.append(act())
            except PASSING:
                return False
            return True

        until(tried, PATIENCE_S, "a page that can be used")
        return done[0]
