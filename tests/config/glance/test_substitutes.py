"""Substitution of ``$option``, compared with oslo.config itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from oslo_config import cfg

from config.glance.options import DEFAULTS
from config.glance.substitutes import Key, substituted
from transship.domain.errors import ValueRefused

TEXTS = st.lists(
    st.sampled_from(
        ["$", "{", "}", "$$", r"\$", "!", "1", "x", "/", " ", "ä", "pa$1x", "$a", "${a}", "$b", "${g.a}", "${g.c}",
         "$c", "$nowhere", "${h.a}", "$bind_port", "${task.task_time_to_live}", "$public_endpoint", "$A"]
    ),
    max_size=6,
).map("".join)  # fmt: skip
OPTIONS: tuple[Key, ...] = (("DEFAULT", "a"), ("DEFAULT", "b"), ("g", "a"), ("g", "c"))


def as_oslo_reads(texts: Mapping[Key, str], key: Key) -> str | None:
    """Return what oslo.config makes of an option; None: it raises."""
    conf = cfg.ConfigOpts()
    for section, option in texts:
        conf.register_opt(cfg.StrOpt(option), group=None if section == "DEFAULT" else section)
    for (section, option), default in DEFAULTS.items():
        conf.register_opt(cfg.StrOpt(option, default=default), group=None if section == "DEFAULT" else section)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "glance-api.conf"
        lines = [f"[{section}]\n{option} = {text}\n" for (section, option), text in texts.items()]
        file.write_text("".join(lines))
        conf(["--config-file", str(file)], project="glance")
        try:
            section = conf if key[0] == "DEFAULT" else conf[key[0]]
            return str(section[key[1]])
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.ConfigFileValueError, RecursionError):
            return None


@given(st.tuples(*[TEXTS] * len(OPTIONS)), st.sampled_from(OPTIONS))
@example(("", "", "$A", "$a"), ("g", "c"))
@example(("1", "", "${g.a}", "$a"), ("g", "c"))
@example(("$nowhere", "", "$nowhere", "$a"), ("g", "c"))
@example(("", "", "${h.a}", "$a"), ("g", "c"))
def test_texts_mean_what_they_mean_to_oslo_config(written: tuple[str, ...], key: Key) -> None:
    texts = {option: text.strip() for option, text in zip(OPTIONS, written, strict=True)}
    try:
        found = substituted(texts, key)
    except ValueRefused:
        found = None
    assert found == as_oslo_reads(texts, key)


@pytest.mark.parametrize("text", ["pa$!x", "pa$1x", "pass$", "${", "${a-b}", "$$a", r"\$a"])
def test_a_dollar_before_no_name_stands_for_itself(text: str) -> None:
    assert substituted({("DEFAULT", "x"): text}, ("DEFAULT", "x")) == text.replace("$$", "$").replace(r"\$", "$")


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"x": "$x"}, r"\[DEFAULT\] x -> \[DEFAULT\] x"),
        ({"x": "$y", "y": "$z", "z": "$y"}, r"x -> \[DEFAULT\] y -> \[DEFAULT\] z -> \[DEFAULT\] y"),
        ({"x": "$nowhere"}, r"refers to \$nowhere, which no file sets; write \$\$"),
        ({"x": "$state_path"}, r"refers to \$state_path"),
        ({"x": "${nowhere.y}"}, r"refers to \$nowhere.y"),
    ],
)
def test_a_name_without_a_value_is_refused_by_name(texts: Mapping[str, str], reason: str) -> None:
    with pytest.raises(ValueRefused, match=reason):
        substituted({("DEFAULT", option): text for option, text in texts.items()}, ("DEFAULT", "x"))


@pytest.mark.parametrize("name", ["${DEFAULT.y}", "${defaults.y}", "$y"])
def test_the_default_section_may_be_named_although_oslo_config_refuses_it(name: str) -> None:
    assert substituted({("DEFAULT", "y"): "1", ("g", "x"): name}, ("g", "x")) == "1"


def test_sections_are_named_in_any_case() -> None:
    assert substituted({("fast", "y"): "1", ("g", "x"): "${Fast.y}"}, ("g", "x")) == "1"
