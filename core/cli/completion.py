"""`isoform completion bash|zsh|fish`: a script that completes commands, flags, their values and the names of apps.

It is made from the parser and from apps.toml, and asks nothing of isoform later on: completing costs no start of
Python. A place is where on the command line one stands: "" behind `isoform`, "/vision/train" behind these words.
"""

from __future__ import annotations

import argparse
import importlib.resources
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote

from isoform.core.cli.context import Context


@dataclass
class Flag:
    """An option: what it means, whether a value follows, and which ones where there are few."""

    help: str
    takes: bool
    values: Sequence[str] = ()


@dataclass
class Place:
    """What may stand here, each with its meaning: words (commands, names of apps) and flags."""

    words: dict[str, str] = field(default_factory=dict)
    flags: dict[str, Flag] = field(default_factory=dict)


def completion(context: Context, parser: argparse.ArgumentParser) -> int:
    """Prints the script for what a parser of every command knows."""
    shell = context.args.shell
    places = dict(_places(parser, "", _apps()))
    script = SHELLS[shell](places)
    context.console.say(script.rstrip("\n"))
    context.console.result = {"shell": shell, "script": script}
    return 0


def _apps() -> dict[str, list[str]]:
    """The built-in apps of each domain, read without the tables that would check them."""
    text = importlib.resources.files("isoform").joinpath("apps.toml").read_text(encoding="utf-8")
    return {domain: list(apps) for domain, apps in tomllib.loads(text).items()}


def _places(
    parser: argparse.ArgumentParser, place: str, apps: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Place]]:
    """This place and all below it."""
    here = Place()
    yield place, here
    domain = place.split("/")[1] if place.count("/") > 1 else ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, below in action.choices.items():
                here.words[name] = about.get(name, "")
                yield from _places(below, f"{place}/{name}", apps)
        elif action.option_strings:
            values = [str(value) for value in action.choices or ()]
            flag = Flag(action.help or "", action.nargs != 0, values)
            here.flags |= {name: flag for name in action.option_strings}
        elif action.choices:
            here.words |= {str(value): "" for value in action.choices}
        elif "APP" in str(action.metavar).split("|"):
            of = [domain] if domain else list(apps)
            here.words |= {app: f"app of {name}" for name in of for app in apps.get(name, ())}
        elif action.metavar == "DOMAIN":
            here.words |= {name: "" for name in apps}


def _plain(place: Place) -> Iterator[str]:
    """The flags behind which any value or file may follow."""
    return (name for name, flag in place.flags.items() if flag.takes and not flag.values)


def _below(places: Mapping[str, Place]) -> list[str]:
    return [place for place in places if place]


def bash(places: Mapping[str, Place]) -> str:
    """For `eval "$(isoform completion bash)"`."""
    valued = [
        f"        {quote(f'{place} {name}')}) words={quote(' '.join(flag.values))} ;;"
        for place, here in places.items()
        for name, flag in here.flags.items()
        if flag.values
    ]
    free = [quote(f"{place} {name}") for place, here in places.items() for name in _plain(here)]
    cases = []
    for place, here in places.items():
        words, flags = (quote(" ".join(one)) for one in (here.words, here.flags))
        cases.append(f"        {quote(place)}) words={words} flags={flags} ;;")
    return "\n".join(
        [
            '# eval "$(isoform completion bash)"',
            "_isoform() {",
            '    local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '    local place="" word words="" flags=""',
            '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            '        case "$place/$word" in',
            f'            {"|".join(_below(places))}) place="$place/$word" ;;',
            "        esac",
            "    done",
            "    COMPREPLY=()",
            '    case "$place" in',
            *cases,
            "    esac",
            '    [[ $current == -* ]] && words="$flags"',
            '    case "$place $before" in',
            *valued,
            f"        {'|'.join(free)}) return ;;",
            "    esac",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -F _isoform isoform",
            "",
        ]
    )


def zsh(places: Mapping[str, Place]) -> str:
    """For `eval "$(isoform completion zsh)"`, or as the file _isoform in a folder of $fpath."""

    def shown(told: Mapping[str, str]) -> str:
        return " ".join(quote(f"{word}:{help}" if help else word) for word, help in told.items())

    valued = [
        f"        ({quote(f'{place} {name}')}) told=({shown(dict.fromkeys(flag.values, ''))}) ;;"
        for place, here in places.items()
        for name, flag in here.flags.items()
        if flag.values
    ]
    free = [quote(f"{place} {name}") for place, here in places.items() for name in _plain(here)]
    cases = []
    for place, here in places.items():
        flags = shown({name: flag.help for name, flag in here.flags.items()})
        cases.append(f"        ({quote(place)}) told=({shown(here.words)}) flags=({flags}) ;;")
    return "\n".join(
        [
            '#compdef isoform  # eval "$(isoform completion zsh)"',
            "_isoform() {",
            '    local current="${words[CURRENT]}" before="${words[CURRENT-1]}" place="" word',
            "    local -a told flags",
            "    for word in ${words[2,CURRENT-1]}; do",
            '        case "$place/$word" in',
            f'            ({"|".join(_below(places))}) place="$place/$word" ;;',
            "        esac",
            "    done",
            '    case "$place" in',
            *cases,
            "    esac",
            '    [[ $current == -* ]] && told=("${flags[@]}")',
            '    case "$place $before" in',
            *valued,
            f"        ({'|'.join(free)}) told=() ;;",
            "    esac",
            "    _describe isoform told || _files",
            "}",
            'if [[ "$funcstack[1]" == _isoform ]]; then _isoform "$@"; else compdef _isoform isoform; fi',
            "",
        ]
    )


def fish(places: Mapping[str, Place]) -> str:
    """For `isoform completion fish | source`."""

    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    lines = [
        "# isoform completion fish | source",
        "function __isoform_at",
        "    set -l place ''",
        "    for word in (commandline -opc)",
        f'        contains -- "$place/$word" {" ".join(_below(places))}; and set place "$place/$word"',
        "    end",
        '    test "$place" = "$argv[1]"',
        "end",
    ]
    for place, here in places.items():
        at = f"complete -c isoform -n {quoted(f'__isoform_at {quoted(place)}')}"
        for word, about in here.words.items():
            lines.append(f"{at} -f -a {word} -d {quoted(about)}")
        for name, flag in here.flags.items():
            kind = "-l" if name.startswith("--") else "-s"
            value = f" -x -a {quoted(' '.join(flag.values))}" if flag.values else " -r"
            lines.append(
                f"{at} {kind} {name.lstrip('-')}{value if flag.takes else ''} -d {quoted(flag.help)}"
            )
    return "\n".join([*lines, ""])


SHELLS: Mapping[str, Callable[[Mapping[str, Place]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}
