"""The command line: `main` runs one verb for whatever domains it is handed.

Exit codes: 0 done, 1 failed, 2 the user's mistake, 75 preempted and resumable.

Nothing heavy is imported before the arguments are read, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from isoform.core.cli.console import Console, said_by, speak_any_encoding
from isoform.core.cli.context import Context
from isoform.core.cli.launch import is_follower, main_says_it, told
from isoform.core.cli.parser import UsageError, parse
from isoform.core.errors import Preempted, RunError, UserError

if TYPE_CHECKING:
    from isoform.core.domain import AnyDomain

__all__ = ["main"]

DONE, FAILED, MISTAKE, PREEMPTED = 0, 1, 2, 75


def main(
    argv: Sequence[str] | None = None, *, domains: Mapping[str, Callable[[], AnyDomain]]
) -> int:
    """Runs one command and returns its exit code; `domains` maps a name to what loads it.

    Never raises: a mistake of the user's is one sentence on stderr, anything unforeseen one line (a traceback with
    --debug).
    """
    # Read when torch is loaded: threads that spin while they wait take a busy machine's cores, ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    argv = list(sys.argv[1:] if argv is None else argv)
    speak_any_encoding()
    console = Console(json="--json" in argv, quiet=is_follower())
    debug = "--debug" in argv
    try:
        args = parse(argv, domains)
        with said_by(console):
            code = args.run(Context(args, domains, console))
    except SystemExit as stop:  # argparse after --help; a benchmark says with a text why it ends
        if isinstance(stop.code, str):
            return console.fail(stop.code, MISTAKE, debug=False)
        return int(stop.code or 0)
    except (UserError, UsageError) as error:
        console.quiet = is_follower() and main_says_it()
        code = console.fail(str(error), MISTAKE, debug and not isinstance(error, UsageError))
    except Preempted as error:
        code = console.fail(str(error), PREEMPTED, debug)
    except KeyboardInterrupt:
        code = console.fail("interrupted", FAILED, debug)
    except RunError as error:
        code = console.fail(str(error), FAILED, debug)
    except BrokenPipeError:  # `isoform apps | head`: the reader has all that it wants
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the flush at exit complains
        return DONE
    except Exception as error:  # noqa: BLE001 - the last resort: a line instead of a traceback
        said = f"unexpected {type(error).__name__}: {error}".strip().removesuffix(":")
        code = console.fail(said + ("" if debug else "; add --debug to see where"), FAILED, debug)
    console.finish(code)
    return told(code)
