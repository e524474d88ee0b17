"""`.env` is read as Docker and python-dotenv read it, and the error for an unreadable env file names the file."""

import re

import dotenv
import pytest

from include import env_file


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=plain", "plain"),
        ("X = spaces around ", "spaces around"),
        ("export X=exported", "exported"),
        ("X=", ""),
        ("X=[%(asctime)s] %(levelname)s - %(message)s", "[%(asctime)s] %(levelname)s - %(message)s"),
        ('X=[{"name": "x", "kwargs": {}}]', '[{"name": "x", "kwargs": {}}]'),
        ("X=it's", "it's"),
        ("X=a#b # why", "a#b"),
        ("X= # why", ""),
        ("X=back\\slash\\n", "back\\slash\\n"),
        ("X='single # \"$HOME\\n\"' # why", 'single # "$HOME\\n"'),
        ("X='Let\\'s go!'", "Let's go!"),
        (r'X="{\"hello\": \"json\"}\t"', '{"hello": "json"}\t'),
        ('X=""', ""),
    ],
)
def test_a_value_of_dot_env_is_what_docker_makes_of_it(tmp_path, line, value):
    path = tmp_path / ".env"
    path.write_text(f"# X=no\n\n{line}\nY=1\n")
    assert env_file.read_dot_env(path) == {"X": value, "Y": "1"}
    assert dotenv.dotenv_values(path, interpolate=False) == {"X": value, "Y": "1"}


@pytest.mark.parametrize("text", ["'it", '"a" and "b"', "'C:\\'"])
def test_a_quote_of_dot_env_that_is_not_closed_is_refused_without_its_value(tmp_path, text):
    path = tmp_path / ".env"
    path.write_text(f"Y=1\nX={text}\n")
    with pytest.raises(
        env_file.UnreadableEnvFile, match=rf"{re.escape(str(path))}, line 2: the value of X begins"
    ) as refused:
        env_file.read_dot_env(path)
    assert text not in str(refused.value)


def test_the_env_file_of_the_stack_may_have_values_of_several_lines_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "env"
    assert env_file.read(path) == {}
    path.write_text('# Don\'t edit.\nexport A=\'{\n  "b": "#="\n}\'\nC=d\n')
    assert env_file.read(path) == {"A": '{\n  "b": "#="\n}', "C": "d"}
    path.write_text("export A='b\n")
    with pytest.raises(env_file.UnreadableEnvFile, match=rf"^{re.escape(str(path))}: (?s:.*)make clean"):
        env_file.read(path)
