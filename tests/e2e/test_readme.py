"""README keeps its word: its tour prints what it shows, and what it names is there."""

import re
from pathlib import Path

import yaml

from tests.e2e.tour import README, alike, differences, run, steps
from tests.live import running

ROOT = README.parent


def test_the_tour_prints_what_is_shown(tmp_path):
    expected = steps(README.read_text())
    assert len(expected) > 15
    with running() as live:
        printed = run([command for command, _ in expected], live, tmp_path)
    assert not (wrong := differences(expected, printed)), wrong


def test_a_change_of_output_would_be_seen():
    assert differences([("c", "one\ntwo\n")], ["one\nthree\n"])
    assert not differences(
        [("c", "at 2026-01-01T00:00:00Z │ 3 s\n")], ["at 2027-02-02T01:01:01+00:00  | 9 s\n"]
    )
    assert alike("a 0192f0c1-0000-7000-8000-000000000000") == "a ID"


def test_links_and_folders_are_there():
    text = README.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for folder in re.findall(r"^\| (?:\[)?([\w/.]+/)(?:\]|\s)", text, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_make_and_mise_targets_are_there():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w%-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README.read_text(), re.MULTILINE)) <= targets
    used = set(re.findall(r'"make ([\w-]+)', (ROOT / "mise.toml").read_text()))
    assert used
    for target in used:
        assert target in targets or f"{target.partition('-')[0]}-%" in targets, target


def test_every_setting_is_in_the_example():
    from imi.config import NAMES

    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#(IMI_\w+)=", example, re.MULTILINE)) == set(NAMES)


def test_compose_and_dockerfile_name_what_exists():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {"imi", "postgres", "rabbitmq"}
    assert all("healthcheck" in s for name, s in services.items() if name != "imi")
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "HEALTHCHECK" in dockerfile
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines(), source


def test_the_project_names_no_place_of_one_machine():
    places = re.compile("|".join(re.escape(f"{place}/") for place in (ROOT, Path.home())))
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("imi/**/*.py"),
        *ROOT.glob("sql/*"),
        *ROOT.glob("db/**/*.sql"),
    ]:
        assert not places.search(Path(path).read_text()), path
