"""The measured blocks of docs/speed.md, made again: `python scripts/make/speed.py growth.py`; without words, all of them.

A block begins with a comment that says its command, such as `<!-- measured: growth.py depth --rounds 7 -->`, and ends with
`<!-- end -->`. Between them stands what the command printed, a script of scripts/benchmarks, with the machine that it was
printed on. Words choose the blocks whose command holds one of them. Have the machine to yourself: all take hours.

What was printed before is put there with `--output`: `python scripts/make/speed.py race.py --output race.txt`.
"""

import argparse
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "speed.md"
BLOCK = re.compile(r"(<!-- measured: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# These print Markdown; of all others, the text stands in a fence.
MARKDOWN = ("race.py",)


def printed(command):
    """What a benchmark prints.

    Raises:
        CalledProcessError: it failed; its errors have been shown.
    """
    script, *options = shlex.split(command)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    call = [sys.executable, str(ROOT / "scripts" / "benchmarks" / script), *options]
    return subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def block(command, text):
    """What stands between the two comments."""
    text = "\n".join(line.rstrip() for line in text.strip().splitlines())
    whole = text if command.split()[0] in MARKDOWN else f"```text\n$ python scripts/benchmarks/{command}\n{text}\n```"
    return f"\n{whole}\n\n"


def with_block(page, command, text):
    """A page with this text in the blocks of a command."""

    def replaced(match):
        begins, found, _, ends = match.groups()
        return begins + text + ends if found == command else match[0]

    return BLOCK.sub(replaced, page)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of commands, as the page says them")
    parser.add_argument("--output", type=pathlib.Path, help="a file of what the command printed; it is not run")
    parser.add_argument("--list", action="store_true", help="prints the commands and runs none")
    arguments = parser.parse_args()
    commands = [command for _, command, _, _ in BLOCK.findall(PAGE.read_text())]
    chosen = [command for command in commands if not arguments.words or any(word in command for word in arguments.words)]
    if arguments.list:
        print(*chosen, sep="\n")
        return
    if not chosen or (arguments.output and len(chosen) > 1):
        parser.error(f"{'one block' if chosen else 'a block'} is wanted of {commands}, but the words choose {chosen}.")
    for command in chosen:
        print(command, flush=True)
        text = block(command, arguments.output.read_text() if arguments.output else printed(command))
        # Read again each time: a block that is there stays there, whatever comes of the next.
        PAGE.write_text(with_block(PAGE.read_text(), command, text))


if __name__ == "__main__":
    main()
