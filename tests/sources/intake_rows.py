"""What happens with bad addresses and with hostile or broken servers, row by row; ``docs/intake.md`` shows the outcome.

``python -m tests.sources.intake_rows`` rewrites the tables of that page; a test keeps them current.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Final
from unittest.mock import patch

from config.settings import DownloadSettings, UriSettings
from tests.fakes.certificates import Authority, only_old_tls, self_signed_context
from tests.fakes.dns_server import DnsResolver, DnsServer
from tests.fakes.range_server import RangedFile
from tests.fakes.web_server import Behaviour, Talk, WebServer, answer, cut, drip, endless, raw, redirect, silent, whole
from transship.domain.errors import StagingFull, TransferFailed
from transship.domain.stop import StopToken
from transship.domain.uri_filter import UriRules
from transship.sources import dialling
from transship.sources.dialling import client_tls
from transship.sources.gate import UriGate, rules_from
from transship.sources.web import Downloaded, PartTarget, SourceRequest, Validators, WebSource

PAGE: Final = Path("docs/intake.md")
DATA: Final = bytes(range(256)) * 1200
HEAD: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH: Final = b"Content-Length: %d\r\n" % len(DATA)
PUBLIC: Final = "93.184.215.14"
LOOPBACK: Final = UriRules(allowed_hosts=("127.0.0.1", "localhost", "mirror.example"), allowed_ports=())
LIMITS: Final = DownloadSettings(
    connect_timeout_s=60,
    idle_timeout_s=60,
    total_timeout_s=600,
    min_speed_bytes_per_s=1000,
    min_speed_window_s=60,
    chunk_bytes=64 * 1024,
).model_copy(update={"range_bytes": 64 * 1024})
DEAF: Final = LIMITS.model_copy(update={"connect_timeout_s": 1})
SILENT: Final = LIMITS.model_copy(update={"idle_timeout_s": 1.5})
SLOW: Final = LIMITS.model_copy(update={"min_speed_window_s": 1.5})
"""For the rows that are about one of these limits; wide enough for what has to come before the fault."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row: the verdict, the deciding rule or error, and its text."""

    verdict: str
    decided_by: str
    message: str


@dataclass
class Ground:
    """Servers and a directory for one row."""

    server: WebServer
    dns: DnsServer
    directory: Path
    undo: ExitStack

    def tls(self, case: str) -> tuple[WebServer, Authority]:
        """Start an https server with one kind of certificate for mirror.example."""
        authority = Authority()
        contexts = {
            "right": lambda: authority.server_context("mirror.example"),
            "expired": lambda: authority.server_context("mirror.example", lasts=timedelta(days=-1)),
            "wrong name": lambda: authority.server_context("other.example"),
            "self-signed": lambda: self_signed_context("mirror.example"),
            "SHA-1": lambda: authority.server_context("mirror.example", sha1=True),
            "TLS 1.0": lambda: only_old_tls(authority.server_context("mirror.example")),
        }
        server = self.undo.enter_context(WebServer(tls=contexts[case]()))
        server.serve("/x", DATA)
        return server, authority

    def fetch(
        self,
        url: str,
        *,
        rules: UriRules = LOOPBACK,
        attempts: int = 1,
        limits: DownloadSettings = LIMITS,
        cap_bytes: int = 1 << 20,
        free_bytes: int = 1 << 40,
        authority: Authority | None = None,
        ipv6_first: bool = False,
    ) -> Outcome:
        """Download, retrying after transient errors, and return the outcome."""
        part = self.directory / "image.part"
        known: list[Validators] = []

        def reserve(size_bytes: int) -> None:
            if size_bytes > free_bytes:
                raise StagingFull(size_bytes, free_bytes)

        tls = client_tls()
        if authority is not None:
            authority.trust_in(tls)
        gate = UriGate(rules, DnsResolver(self.dns.port, ipv6_first=ipv6_first))
        source = WebSource(gate, limits, cap_bytes, tls=tls)
        for attempt in range(1, attempts + 1):
            try:
                resume = known[-1] if known and known[-1].strong else None
                target = PartTarget(part, known.append, reserve, lambda *_: None, resume)
                done = source.fetch(SourceRequest(url), target, StopToken())
            except TransferFailed as failed:
                if failed.retryable and attempt < attempts:
                    continue
                return self._failure(failed)
            assert part.read_bytes() == DATA or done.size != len(DATA), "other bytes than the server's"
            return _success(done, attempt)
        raise AssertionError("unreachable: the last attempt returns")

    def _failure(self, failed: TransferFailed) -> Outcome:
        decided_by = type(failed).__name__
        if rule := getattr(failed, "rule", ""):
            decided_by += f" ({rule})"
        text = re.sub(r"(127\.0\.0\.1|[a-z]+\.example|localhost):\d+", r"\1", str(failed))
        text = re.sub(r"sent [1-9]\d* bytes/s over \d+ s", "sent N bytes/s over N s", text)
        text = re.sub(r"over \d+ s", "over N s", text)
        text = re.sub(r"download of 1\.\d MiB", "download of 1.N MiB", text)
        # The words of OpenSSL and Python change with their versions.
        text = re.sub(r"(certificate of \S+ is not accepted): [^;]*; use", r"\1: (OpenSSL's words); use", text)
        text = text.replace("Requested Range", "Range")
        return Outcome("tried again" if failed.retryable else "refused", decided_by, text)


def _success(done: Downloaded, attempt: int) -> Outcome:
    words = [f"{done.size} bytes"]
    if done.resumed_from:
        words.append(f"{done.resumed_from} of them kept from the attempt before")
    if not done.end_proven:
        words.append("the task's message says that a cut could not be told from the end")
    return Outcome("accepted", "" if attempt == 1 else f"attempt {attempt}", ", ".join(words))


@dataclass(frozen=True)
class Row:
    """One row: its id in the catalogue of bad inputs, what comes in, and how to try it."""

    id: str
    what: str
    run: Callable[[Ground], Outcome]

    @property
    def key(self) -> str:
        """The first cells of the row in the page."""
        return f"| {self.id} | {_cell(self.what)} |"

    def line(self, outcome: Outcome) -> str:
        """The whole row in the page."""
        return f"{self.key} {outcome.verdict} | {_cell(outcome.decided_by)} | {_cell(outcome.message)} |"


def _cell(text: str) -> str:
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return shown.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


@contextmanager
def ground(directory: Path) -> Iterator[Ground]:
    """Servers for one row; the DNS server knows the names that the rows use."""
    with ExitStack() as undo:
        server = undo.enter_context(WebServer())
        dns = undo.enter_context(DnsServer())
        dns.say("localhost", ("127.0.0.1",))
        dns.say("mirror.example", ("127.0.0.1",))
        for name in ("public.example", "allowed.example", "evil.example", "xn--bcher-kva.example"):
            dns.say(name, (PUBLIC,))
        yield Ground(server, dns, directory, undo)


# --- addresses ---------------------------------------------------------------------------------


def judged(text: str, settings: UriSettings | None = None, **names: tuple[str, ...]) -> Callable[[Ground], Outcome]:
    """Ask the gate; further names are ``<label>.example``."""

    def run(ground: Ground) -> Outcome:
        for label, addresses in names.items():
            ground.dns.say(f"{label}.example", addresses)
        gate = UriGate(rules_from(settings or UriSettings()), DnsResolver(ground.dns.port))
        verdict = gate.explain(text)
        return Outcome("accepted" if verdict.accepted else "refused", verdict.rule, verdict.reason)

    return run


def plain(row: str, text: str, what: str = "", settings: UriSettings | None = None, **names: tuple[str, ...]) -> Row:
    """Return a row that is a URI."""
    return Row(row, what or f"`{text}`", judged(text, settings, **names))


def sent_on(row: str, what: str, location: str | None, status: int = 302, rules: UriRules = LOOPBACK) -> Row:
    """Return a row that is a redirect."""

    def run(ground: Ground) -> Outcome:
        ground.server.serve("/x", DATA)
        where = None if location is None else location.format(port=ground.server.port)
        return ground.fetch(ground.server.on("/a", redirect(where, status)), rules=rules)

    return Row(row, what, run)


def _rebinding(ground: Ground) -> Outcome:
    ground.dns.say("rebind.example", (PUBLIC,), ("127.0.0.1",))
    gate = UriGate(UriRules(), DnsResolver(ground.dns.port))
    assert gate.admit("http://rebind.example/").addresses == (PUBLIC,)
    assert len(ground.dns.asked) == 2, "A and AAAA, once each"
    verdict = gate.explain("http://rebind.example/")
    return Outcome("refused" if not verdict.accepted else "accepted", verdict.rule, verdict.reason)


def _rebinding_between_ranges(ground: Ground) -> Outcome:
    ground.server.on("/x", RangedFile(DATA))
    ground.dns.say("rebind.example", ("127.0.0.1",), ("169.254.169.254",))
    rules = UriRules(allowed_hosts=("rebind.example",), allowed_ports=())
    done = ground.fetch(ground.server.url("/x", "rebind.example"), rules=rules)
    assert {one.headers.get("range", "") for one in ground.server.requests("/x")} == {""}
    return done


def _chain(ground: Ground) -> Outcome:
    for number in range(50):
        ground.server.on(f"/{number}", redirect(f"/{number + 1}"))
    return ground.fetch(ground.server.url("/0"))


def _out_of_tls(ground: Ground) -> Outcome:
    secure, authority = ground.tls("right")
    secure.on("/a", redirect(ground.server.serve("/x", DATA)))
    return ground.fetch(secure.url("/a", "mirror.example"), authority=authority)


def _refresh(ground: Ground) -> Outcome:
    done = ground.fetch(ground.server.serve("/x", DATA, headers={"Refresh": "0; url=http://169.254.169.254/"}))
    assert len(ground.server.requests("/x")) == 1
    return done


def _no_credentials(ground: Ground) -> Outcome:
    ground.server.serve("/x", DATA)
    first = answer(302, {"Location": ground.server.url("/x", "localhost"), "Set-Cookie": "a=b"})
    done = ground.fetch(ground.server.on("/a", first))
    (request,) = ground.server.requests("/x")
    assert not {"authorization", "cookie", "x-auth-token", "referer"} & set(request.headers)
    return done


def _unused_port(ground: Ground) -> Outcome:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return ground.fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def _behind_tls(case: str) -> Callable[[Ground], Outcome]:
    def run(ground: Ground) -> Outcome:
        server, authority = ground.tls(case)
        done = ground.fetch(server.url("/x", "mirror.example"), authority=authority)
        assert done.verdict == "accepted" or server.requests("/x") == []
        assert set(server.server_names) <= {"mirror.example"}
        return done

    return run


def _proxy_of_the_environment(ground: Ground) -> Outcome:
    names = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY")
    with patch.dict(os.environ, dict.fromkeys(names, "http://127.0.0.1:9")):
        return ground.fetch(ground.server.serve("/x", DATA))


ONLY = UriSettings(allowed_hosts=("allowed.example",))
LONG_LABEL = "a" * 300
URLS: tuple[Row, ...] = (
    *(plain("U1", text) for text in ("file:///etc/passwd", "FILE:///etc/passwd", "//host/x", "http:///x")),
    sent_on("U2", "redirect to `file:///dev/zero`", "file:///dev/zero"),
    sent_on("U2", "redirect to `file:///proc/self/environ`", "file:///proc/self/environ"),
    *(
        plain("U3", text)
        for text in (
            "ftp://host/x",
            "gopher://host/x",
            "data:text/plain,x",
            "jar:http://host/x",
            "dict://host/x",
            "unix:/run/x",
        )
    ),
    plain("U3", "ftp://host/x", "`ftp://host/x`, ftp in allowed_schemes", UriSettings(allowed_schemes=("ftp",))),
    plain("U4", "http://public.example:22/"),
    plain("U5", "http://public.example:0/"),
    *(plain("U6", f"http://public.example{port}/") for port in (":65536", ":80:80", ":+80", ":\uff18\uff10")),
    *(
        plain("U7", f"http://{host}/")
        for host in ("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "017700000001", "127.0x0.0.1")
    ),
    *(
        plain("U7", f"http://{host}/", what, UriSettings(allowed_hosts=("127.0.0.1",)))
        for host, what in (
            ("127\u30020\u30020\u30021", "`http://127\u30020\u30020\u30021/`, 127.0.0.1 in allowed_hosts"),
            ("\u246027.0.0.1", "`http://\u246027.0.0.1/`, 127.0.0.1 in allowed_hosts"),
            ("\uff11\uff12\uff17.0.0.1", "`http://\uff11\uff12\uff17.0.0.1/`, 127.0.0.1 in allowed_hosts"),
            ("127.0.0.\u200b1", "`http://127.0.0.\u200b1/`, 127.0.0.1 in allowed_hosts"),
        )
    ),
    plain("U9", "http://loop.example/", "a name that leads to 127.0.0.1", loop=("127.0.0.1",)),
    plain("U9", "http://private.example/", "a name that leads to 10.0.0.5", private=("10.0.0.5",)),
    plain(
        "U9",
        "http://named.example/",
        "a name in allowed_hosts that leads to 10.0.0.5",
        UriSettings(allowed_hosts=("named.example",)),
        named=("10.0.0.5",),
    ),
    *(
        plain("U10", f"http://{host}/")
        for host in ("169.254.169.254", "metadata.google.internal", "100.100.100.200", "[fd00:ec2::254]")
    ),
    plain(
        "U10",
        "http://named.example/",
        "a name in allowed_hosts that leads to 169.254.169.254",
        UriSettings(allowed_hosts=("named.example",)),
        named=("169.254.169.254",),
    ),
    plain(
        "U10",
        "http://169.254.169.254/",
        "`http://169.254.169.254/`, in allowed_networks",
        UriSettings(allowed_networks=("169.254.0.0/16",)),
    ),
    *(
        plain("U11", f"http://[{host}]/")
        for host in ("::ffff:169.254.169.254", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::127.0.0.1")
    ),
    plain("U13", "http://both.example/", "a name with a public and a private address", both=("10.0.0.5", PUBLIC)),
    plain("U13", "http://none.example/", "a name with two bad addresses", none=("10.0.0.5", "fe80::1")),
    Row("U14", "a name that is public when it is asked for, and 127.0.0.1 when the import runs", _rebinding),
    Row(
        "U14",
        "a name that leads to metadata from the second range on; only the judged connection is read",
        _rebinding_between_ranges,
    ),
    sent_on("U15", "redirect to `http://169.254.169.254/`", "http://169.254.169.254/"),
    sent_on("U15", "redirect to `file:`", "file:"),
    sent_on("U15", "redirect to `//`", "//"),
    sent_on(
        "U15",
        "redirect to another port",
        "http://127.0.0.1:22/",
        rules=UriRules(allowed_hosts=("127.0.0.1",), allowed_ports=(), disallowed_ports=(22,)),
    ),
    Row("U16", "50 redirects in a row", _chain),
    sent_on("U16", "a redirect to itself", "/a"),
    Row("U17", "redirect from https to http", _out_of_tls),
    sent_on("U18", "307", "/x", 307),
    sent_on("U18", "300 with a `Location`", "/x", 300),
    sent_on("U18", "304", "/x", 304),
    Row("U18", "200 with `Refresh:`, which is ignored", _refresh),
    sent_on("U18", "302 without `Location`", None),
    sent_on("U18", "302 to a relative `Location`", "x"),
    sent_on("U18", "302 to a `Location` with a space, which is escaped", "/x?name=My Image"),
    sent_on("U18", "302 to a host with a space", "http://127.0.0.1 .example/x"),
    sent_on("U18", "302 with a control character", "/a\x0bb"),
    Row("U19", "redirect to another host; no credentials and cookies are ever sent", _no_credentials),
    plain("U20", "http://user:pass@public.example/", "`http://user:…@public.example/`"),
    *(
        plain("U21", text, settings=ONLY)
        for text in (
            "http://allowed.example@evil.example/",
            "http://evil.example#@allowed.example",
            "http://evil.example?@allowed.example",
            "http://allowed.example\\@evil.example/",
        )
    ),
    *(
        plain("U22", text)
        for text in (
            "http://allowed%2eevil/",
            "http://allowed%00.evil/",
            "http://allowed%0d%0aevil/",
            "http://public.example/a%0d%0ab",
        )
    ),
    plain("U24", "HTTP://ALLOWED.EXAMPLE./", settings=ONLY),
    plain("U25", "http://\u24d0llowed.example/", settings=ONLY),
    plain("U25", "http://allo\u200bwed.example/", settings=ONLY),
    plain("U25", "http://allo\u00adwed.example/", settings=ONLY),
    plain("U25", "http://\u0430llowed.example/", "`http://\u0430llowed.example/` (Cyrillic \u0430)", ONLY),
    plain("U25", "http://b\u00fccher.example/", settings=UriSettings(allowed_hosts=("xn--bcher-kva.example",))),
    plain("U27", "http://public.example/" + "a" * 65536, "a URL of 64 KiB"),
    plain("U27", f"http://{LONG_LABEL}.example/", "a label of 300 characters"),
    plain("U27", "http://a..example/"),
    plain(
        "U28",
        "http://allowed.example/",
        "a host in allowed_hosts and in disallowed_hosts",
        UriSettings(allowed_hosts=("allowed.example",), disallowed_hosts=("allowed.example",)),
    ),
    plain("U28", "http://evil.example/", "a host not in allowed_hosts", ONLY),
    plain(
        "U28",
        "http://private.example/",
        "an address in allowed_networks and in disallowed_networks",
        UriSettings(allowed_networks=("10.0.0.0/8",), disallowed_networks=("10.0.0.0/8",)),
        private=("10.0.0.5",),
    ),
    plain(
        "U28",
        "http://public.example/",
        "an address outside of allowed_networks",
        UriSettings(allowed_networks=("10.0.0.0/8",)),
    ),
    plain(
        "U28",
        "http://public.example/",
        "an address in disallowed_networks",
        UriSettings(disallowed_networks=(f"{PUBLIC}/32",)),
    ),
    plain(
        "U29",
        "https://public.example/",
        "`https://public.example/`, allowed_ports without 443",
        UriSettings(allowed_ports=(80,)),
    ),
    Row("U30", "a closed port", _unused_port),
    Row("U30", "a port that says nothing", lambda on: on.fetch(on.server.on("/x", raw(b"")))),
    Row("U30", "a port of another protocol", lambda on: on.fetch(on.server.on("/x", raw(b"SSH-2.0-x\r\n")))),
    Row(
        "U30",
        "TLS asked of a port without it",
        lambda on: on.fetch(on.server.url("/x").replace("http:", "https:"), limits=DEAF),
    ),
    Row("U31", "certificate expired", _behind_tls("expired")),
    Row("U31", "certificate for another name", _behind_tls("wrong name")),
    Row("U31", "certificate signed by itself", _behind_tls("self-signed")),
    Row("U31", "certificate signed with SHA-1", _behind_tls("SHA-1")),
    Row("U31", "TLS 1.0", _behind_tls("TLS 1.0")),
    Row("U31", "right certificate; the judged address is dialled, the name proven", _behind_tls("right")),
    Row("U32", "`http_proxy` in the worker's environment, which is ignored", _proxy_of_the_environment),
)


# --- servers -----------------------------------------------------------------------------------


def served(row: str, what: str, *behaviours: Behaviour, attempts: int = 1, **how: object) -> Row:
    """Return a row that is a server; the behaviours answer request after request."""

    def run(ground: Ground) -> Outcome:
        url = ground.server.on("/x", *behaviours)
        return ground.fetch(url, attempts=attempts, **how)  # type: ignore[arg-type]  # the keywords are fetch()'s own

    return Row(row, what, run)


def _no_head(talk: Talk) -> None:
    (whole(DATA) if talk.request.method == "GET" else answer(405))(talk)


def _ignores_range(talk: Talk) -> None:
    whole(DATA, ranges=False, headers={"Accept-Ranges": "bytes"})(talk)


def _whole_as_range(talk: Talk) -> None:
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", talk.request.headers.get("range", ""))
    if asked is None:
        whole(DATA, headers={"Accept-Ranges": "bytes"})(talk)
        return
    span = f"bytes {asked[1]}-{asked[2]}/{len(DATA)}"
    talk.head(206, {"Content-Range": span, "ETag": '"v1"', "Transfer-Encoding": "chunked"})
    talk.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA))


def _whole_as_part(talk: Talk) -> None:
    answer(206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, DATA)(talk)


def _replaced(newer: int) -> Callable[[Ground], Outcome]:
    """A source that has ``newer`` further versions, one for each time that a range is asked for."""

    def run(ground: Ground) -> Outcome:
        file, lock, left = RangedFile(bytes(len(DATA))), threading.Lock(), [newer]
        wholes = itertools.count()
        asked = threading.Event()

        def behave(talk: Talk) -> None:
            if "range" in talk.request.headers:
                with lock:
                    if left[0]:
                        left[0] -= 1
                        file.replace(DATA if not left[0] else bytes(len(DATA)), f'"v{100 - left[0]}"')
                try:
                    file(talk)
                finally:
                    asked.set()
            else:
                first = not next(wholes)
                if not first:
                    file.body = memoryview(DATA)
                head = {"Content-Length": str(len(DATA)), "ETag": file.etag, "Accept-Ranges": "bytes"}
                body = bytes(file.body)
                talk.head(200, head)
                if first:
                    # It must not be there before a range is asked for.
                    asked.wait(60)
                talk.send(body)

        return ground.fetch(ground.server.on("/x", behave))

    return run


def _longer_between_attempts(ground: Ground) -> Outcome:
    ground.server.on("/x", cut(DATA[:1000], 500), whole(DATA, etag='"v2"'))
    return ground.fetch(ground.server.url("/x"), attempts=2)


def _dead_ipv6(ground: Ground) -> Outcome:
    ground.server.serve("/x", DATA)
    ground.dns.say("dual.example", ("::1", "127.0.0.1"))
    rules = UriRules(allowed_hosts=("dual.example",), allowed_ports=())
    # Who refuses is passed over at once: no head start ends within the time for all of them.
    with patch.object(dialling, "HEAD_START_S", 2 * LIMITS.connect_timeout_s):
        return ground.fetch(ground.server.url("/x", "dual.example"), rules=rules, ipv6_first=True)


def _stalled_tls(ground: Ground) -> Outcome:
    return ground.fetch(ground.server.on("/x", silent()).replace("http:", "https:"), limits=DEAF)


def busy(status: int, retry_after: str = "") -> Behaviour:
    """Return a behaviour that asks the client to retry later."""
    return answer(status, {"Retry-After": retry_after} if retry_after else {})


def _wait_granted(row: str, what: str, retry_after: Callable[[], str], least_s: float | None, most_s: float) -> Row:
    def run(ground: Ground) -> Outcome:
        from transship.domain.errors import SourceBusy  # noqa: PLC0415  # used here alone

        url = ground.server.on("/x", busy(503, retry_after()))
        found: list[float | None] = []
        real = SourceBusy.__init__

        def note(self: SourceBusy, uri: str, status: int, retry_after_s: float | None) -> None:
            found.append(retry_after_s)
            real(self, uri, status, retry_after_s)

        with patch.object(SourceBusy, "__init__", note):
            done = ground.fetch(url)
        (granted,) = found
        assert granted == least_s if granted is None or least_s is None else least_s <= granted <= most_s
        words = "the usual wait" if granted is None else f"waits {most_s:g} s"
        return Outcome(done.verdict, done.decided_by, f"{done.message} ({words})")

    return Row(row, what, run)


INTERIM: Final = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
BIG: Final = 100 * 1024**3
PAGE_TEXT: Final = b"<!DOCTYPE html><title>Log in</title>"
GZIP: Final = answer(200, {"Content-Encoding": "gzip"}, DATA)
SERVERS: tuple[Row, ...] = (
    served("H1", "HEAD answered with 405", _no_head),
    served("H2", "no `Accept-Ranges`", whole(DATA, ranges=False)),
    served("H2", "`Accept-Ranges`, but every Range is answered with 200", _ignores_range),
    served("H2", "every Range is answered with 206 and the whole in chunks", _whole_as_range),
    served("H2", "no Range, and the answer is a 206 of the whole", _whole_as_part),
    served(
        "H2", "no Range, and the answer is a 206 of a part", answer(206, {"Content-Range": "bytes 0-9/20"}, DATA[:10])
    ),
    served("H2", "broken off; then the whole instead of the rest", cut(DATA, 1000), _ignores_range, attempts=2),
    Row("H4", "ETag changes once between ranges", _replaced(1)),
    Row("H4", "ETag changes with every range", _replaced(50)),
    served("H6", "`Content-Length` too large", raw(HEAD + b"Content-Length: 9\r\n\r\n12345678")),
    served("H6", "`Content-Length` too small", raw(HEAD + b"Content-Length: 7\r\n\r\n12345678")),
    served("H6", "`Content-Length` negative", raw(HEAD + b"Content-Length: -1\r\n\r\n12345678")),
    served("H6", "two `Content-Length`", raw(HEAD + b"Content-Length: 7\r\nContent-Length: 8\r\n\r\n12345678")),
    served(
        "H6", "`Content-Length : 9`, with a space before the colon", raw(HEAD + b"Content-Length : 9\r\n\r\n" + DATA)
    ),
    served(
        "H6", "a header line without a colon, which changes nothing", raw(HEAD + b"stray\r\n" + LENGTH + b"\r\n" + DATA)
    ),
    served(
        "H6",
        "`Content-Length` and chunks",
        raw(HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
    ),
    served("H6", "no length, the connection just ends", raw(b"HTTP/1.0 200 OK\r\n\r\n" + DATA)),
    served("H6", "chunks without the last one", raw(CHUNKED + b"5\r\n12345\r\n")),
    served("H7", "cut at 0 %, then honest", cut(DATA, 0), whole(DATA), attempts=2),
    served("H7", "cut at 50 %, then honest", cut(DATA, len(DATA) // 2), whole(DATA), attempts=2),
    served("H7", "cut before the last byte, then honest", cut(DATA, len(DATA) - 1), whole(DATA), attempts=2),
    served("H7", "reset without an answer, then honest", Talk.reset, whole(DATA), attempts=2),
    served("H7", "cut in every attempt", cut(DATA, 1000)),
    served("H8", "chunks without end", endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n")),
    served("H8", "a body without length and end", endless(HEAD + b"\r\n", b"x" * 65536)),
    served("H9", "a byte now and then", drip(HEAD + LENGTH + b"\r\n", b"x", 0.05), limits=SLOW),
    served("H9", "headers that trickle", drip(HEAD, b"X-Y: z\r\n", 0.05), limits=SLOW),
    served("H9", "headers without end", endless(HEAD, b"X-Y: z\r\n" * 10)),
    served("H9", "a header of 1 MiB", raw(HEAD + b"X-Long: " + b"x" * (1 << 20) + b"\r\n\r\n")),
    served("H9", "10,000 headers", raw(HEAD + b"X-Y: z\r\n" * 10_000 + b"\r\n")),
    Row("H10", "TLS stalls after the client's first message", _stalled_tls),
    served("H10", "connection taken, then silence", silent(), limits=SILENT),
    served("H10", "silence in the body", silent(HEAD + LENGTH + b"\r\n" + DATA[:70_000]), limits=SILENT),
    served("H11", "`Content-Encoding: gzip`, although `identity` was asked for", GZIP),
    *(
        served("H11", f"`{name}: {word}`, which names no coding", whole(DATA, headers={name: word}))
        for name, word in (
            ("Content-Encoding", "utf-8"),
            ("Content-Encoding", "binary"),
            ("Content-Encoding", "application/octet-stream"),
            ("Transfer-Encoding", "identity"),
        )
    ),
    *(
        served("H11", f"`Content-Encoding: {word}`", answer(200, {"Content-Encoding": word}, DATA))
        for word in ("br", "zstd", "deflate")
    ),
    served("H11", "`Content-Encoding: x-gzip`", answer(200, {"Content-Encoding": "x-gzip"}, DATA)),
    served(
        "H11",
        "`Content-Encoding: aws-chunked`, which S3 keeps of an upload",
        whole(DATA, headers={"Content-Encoding": "aws-chunked"}),
    ),
    served("H12", "200 with a login page", answer(200, {"Content-Type": "text/html"}, PAGE_TEXT)),
    _wait_granted("H13", "503, `Retry-After: 5`", lambda: "5", 5, 5),
    _wait_granted("H13", "503, `Retry-After: 86400`", lambda: "86400", 120, 120),
    _wait_granted("H13", "503, `Retry-After` a date in 60 s", lambda: formatdate(time.time() + 60, usegmt=True), 1, 60),
    _wait_granted("H13", "503, `Retry-After: soon`", lambda: "soon", None, 0),
    served(
        "H15",
        "102, 103 and 100 before the answer",
        raw(INTERIM + HEAD + LENGTH + b"\r\n" + DATA),
    ),
    served("H15", "203", answer(203, body=DATA)),
    *(served("H14", f"{status}", busy(status)) for status in (408, 425, 429, 500, 502, 504)),
    served("H14", "503, then honest", busy(503), whole(DATA), attempts=2),
    *(served("H15", f"{status}", answer(status)) for status in (401, 403, 404, 410, 416, 451)),
    Row("H17", "replaced by a longer file after the connection broke", _longer_between_attempts),
    served("H18", "0 bytes", answer(200)),
    served(
        "H18", "0 bytes, `download.allow_empty`", answer(200), limits=LIMITS.model_copy(update={"allow_empty": True})
    ),
    Row("H20", "IPv6 dead, IPv4 alive", _dead_ipv6),
    served(
        "H21",
        "100 GiB announced, 1 GiB of staging free",
        raw(HEAD + b"Content-Length: %d\r\n\r\n" % BIG),
        cap_bytes=1 << 50,
        free_bytes=1 << 30,
    ),
    served("H21", "100 GiB announced, 1 MiB is the limit of images", raw(HEAD + b"Content-Length: %d\r\n\r\n" % BIG)),
    served(
        "H22",
        "`Content-Disposition: attachment; filename=../../x`, which is ignored",
        whole(DATA, headers={"Content-Disposition": "attachment; filename=../../x"}),
    ),
)

TABLES: Final = {"addresses": URLS, "servers": SERVERS}


def outcome_of(row: Row) -> Outcome:
    """Try a row on servers of its own."""
    with tempfile.TemporaryDirectory() as directory, ground(Path(directory)) as prepared:
        return row.run(prepared)


def marked(text: str, name: str) -> tuple[str, str, str]:
    """Return the text before, in and after a table of the page."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    table, _, behind = rest.partition(end)
    return before + begin, table, end + behind


def main() -> None:
    """Rewrite the tables of the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in TABLES.items():
        before, _, behind = marked(text, name)
        head = "| row | what comes in | verdict | decided by | words |\n| --- | --- | --- | --- | --- |\n"
        text = before + head + "".join(f"{row.line(outcome_of(row))}\n" for row in rows) + behind
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
