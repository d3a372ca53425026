"""`imi shell-init`: the function `imi` for a shell, which can change its directory, and completion."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from imi.cli.command import command, group
from imi.worktrees import spool

app = group("iMi in a shell.")

Shell = Literal["bash", "zsh", "fish"]
GOING = ("go", "feat", "fix", "aiops", "devops", "exp", "review", "restore")
"""What prints the path of a folder to go to."""
DETACHED = """sh -c 'trap "" HUP; "$@" </dev/null >/dev/null 2>&1 &' sh"""
"""Runs what follows in the background, without the terminal and after its end."""

# The x keeps the newlines that a folder may end in; with `function` no alias called imi is in the way.
POSIX = """\
export IMI_SHELL={shell}
function imi {{
  local imi_word imi_out imi_code
  case "${{1-}}" in
    {going}) ;;
    *) {program} "$@"; return ;;
  esac
  for imi_word in "$@"; do
    case "$imi_word" in
      --json|--help|-h) {program} "$@"; return ;;
      --) break ;;
    esac
  done
  imi_out="$({program} "$@"; imi_code=$?; printf x; exit "$imi_code")"
  imi_code=$?
  imi_out="${{imi_out%x}}"
  imi_out="${{imi_out%$'\\n'}}"
  if [ "$imi_code" -eq 0 ] && [ "${{imi_out#/}}" != "$imi_out" ] && [ -d "$imi_out" ]; then
    builtin cd -- "$imi_out" && __imi_reconcile
    return
  fi
  [ -z "$imi_out" ] || printf '%s\\n' "$imi_out"
  return "$imi_code"
}}
function __imi_reconcile {{
  [ -z "$(command find {stamp} -mmin -60 2>/dev/null)" ] || return 0
  command mkdir -p {state} && command touch {stamp} || return 0
  command {detached} {program} reconcile --quiet
}}
"""
COMPLETIONS = {
    "bash": """\
function __imi_complete {{
  local imi_line
  COMPREPLY=()
  while IFS= read -r imi_line; do
    [ -z "$imi_line" ] || COMPREPLY+=("$imi_line")
  done < <(COMP_WORDS="${{COMP_WORDS[*]}}" COMP_CWORD=$COMP_CWORD _IMI_COMPLETE=complete_bash \\
    {program} 2>/dev/null)
}}
complete -o default -F __imi_complete imi
""",
    "zsh": """\
function __imi_complete {{
  local -a imi_found
  imi_found=("${{(@f)$(COMP_WORDS="${{words[1,CURRENT]}}" COMP_CWORD=$((CURRENT - 1)) \\
    _IMI_COMPLETE=complete_bash {program} 2>/dev/null)}}")
  imi_found=("${{(@)imi_found:#}}")
  if (( $#imi_found )); then compadd -a imi_found; else _files; fi
}}
(( ! $+functions[compdef] )) || compdef __imi_complete imi
""",
}
FISH = """\
set -gx IMI_SHELL fish
function imi
  if not contains -- "$argv[1]" {going}
    {program} $argv
    return
  end
  for imi_word in $argv
    switch $imi_word
      case --json --help -h
        {program} $argv
        return
      case --
        break
    end
  end
  set -l imi_out ({program} $argv | string collect)
  set -l imi_code $pipestatus[1]
  if test "$imi_code" -eq 0; and string match -q -- '/*' "$imi_out"; and test -d "$imi_out"
    cd "$imi_out"; and __imi_reconcile
    return
  end
  test -z "$imi_out"; or printf '%s\\n' "$imi_out"
  return $imi_code
end
function __imi_reconcile
  test (count (command find {stamp} -mmin -60 2>/dev/null)) -eq 0; or return 0
  command mkdir -p {state}; and command touch {stamp}; or return 0
  command {detached} {program} reconcile --quiet
end
function __imi_complete
  set -l imi_words (commandline -opc)
  set -l imi_found (COMP_WORDS="$imi_words "(commandline -ct) COMP_CWORD=(count $imi_words) \\
    _IMI_COMPLETE=complete_bash {program} 2>/dev/null)
  if test -n "$imi_found"
    printf '%s\\n' $imi_found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete --command imi --no-files --arguments '(__imi_complete)'
"""


def program() -> list[str]:
    """This very program, for a shell in whatever folder."""
    started = Path(sys.argv[0]).absolute()
    return [sys.executable, "-m", "imi"] if started.name == "__main__.py" else [str(started)]


def script(shell: Shell) -> str:
    """What the shell evaluates."""
    state = spool.state()
    quote = _fish if shell == "fish" else shlex.quote
    values = {
        "shell": shell,
        "detached": DETACHED,
        "program": " ".join(map(quote, program())),
        "state": quote(str(state)),
        "stamp": quote(str(state / "reconciled")),
    }
    if shell == "fish":
        return FISH.format(going=" ".join(GOING), **values)
    return (POSIX + COMPLETIONS[shell]).format(going="|".join(GOING), **values)


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(data["script"])


@command(app, "shell-init", example='eval "$(imi shell-init bash)"', show=_print)
def shell_init(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell.", show_default=False)],
) -> Any:
    """Print what a shell evaluates when it starts: a function `imi`, and completion.

    The function goes to the folder that imi go, feat, fix, aiops, devops, exp, review and restore print, and
    then, once an hour at most, reconciles in the background. In ~/.bashrc and ~/.zshrc stands the line below,
    with zsh for the one; in ~/.config/fish/config.fish: imi shell-init fish | source
    """
    return {"shell": shell, "script": script(shell)}
