"""docs/commands.md lists every command as include/commands.py declares it."""

from local import command_list


def test_the_page_has_the_table_of_commands():
    text = command_list.PAGE.read_text(encoding="utf-8")
    assert "<!-- commands: " in text
    assert text == command_list.page(text), "Run: python3 -m local.command_list --docs"
