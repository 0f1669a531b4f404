"""docs/speed.md: its figures are what scripts printed, and can be printed again."""

import shlex

from loading import SCRIPTS, load_script

speed = load_script("make/speed")


def test_every_block_has_a_script_and_what_it_printed():
    """A benchmark that is renamed or taken away leaves figures that nobody can check."""
    found = speed.BLOCK.findall(speed.PAGE.read_text())
    assert len(found) > 15
    for _, command, text, _ in found:
        assert (SCRIPTS / "benchmarks" / shlex.split(command)[0]).is_file(), command
        assert text.strip().strip("`"), command
    assert speed.PAGE.read_text().count("<!-- measured:") == len(found) == len({command for _, command, *_ in found})


def test_a_block_is_put_in_place_of_its_own_command_alone():
    """What is measured again must not take the place of another's figures, nor the prose between them."""
    page = "a\n<!-- measured: growth.py depth -->\nold\n<!-- end -->\nb\n"
    page += "<!-- measured: growth.py file -->\nkept\n<!-- end -->\nc\n"
    again = speed.with_block(page, "growth.py depth", speed.block("growth.py depth", "new \\1  \n"))
    assert again == page.replace("old\n", "\n```text\n$ python scripts/benchmarks/growth.py depth\nnew \\1\n```\n\n")
    assert speed.block("race.py --rounds 3", "| a |") == "\n| a |\n\n"
