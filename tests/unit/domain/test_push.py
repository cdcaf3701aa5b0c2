from __future__ import annotations

import pytest

from transship.domain.errors import PushMessageInvalid
from transship.domain.push import Granted, Message, Refused, Reserve, Run, Taken, decode, encode

MESSAGES = (
    Reserve("default"),
    Granted(),
    Refused("all executors are busy"),
    Run({"id": "1", "name": "line\nbreak é", "parameters": {"stores": ["a"]}}),
    Taken(),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_sent_arrives_on_one_line(message: Message) -> None:
    line = encode(message)
    assert line.index(b"\n") == len(line) - 1
    assert decode(line) == message


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"[]", b"{", b"\xff", b'{"reserve": 3}', b'{"run": {}}', b'{"granted": false}', b'{"taken": 1.5}'],
)
def test_anything_else_is_no_message(line: bytes) -> None:
    with pytest.raises(PushMessageInvalid):
        decode(line)
