"""Builds a Dockerfile in folders, without an engine; `FROM` is a Debian that debootstrap installs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES: Final = ("ca-certificates", "netbase", "python3", "python3-pip", "python3-venv", "tzdata")
IGNORED: Final = {"LABEL", "EXPOSE", "STOPSIGNAL"}
FROM_THE_MACHINE: Final = ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt", "etc/pip.conf")


@dataclass
class Stage:
    """A stage of a build: its files, and the effects of its instructions."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def path(self, inside: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / inside.lstrip("/")


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield a Dockerfile's instructions and their arguments, without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        yield name.upper(), rest.strip()


def context(folder: Path, ignore: str) -> list[str]:
    """Return the files of a folder that a dockerignore lets pass; the last pattern that matches decides."""
    patterns = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    rules = [(not line.startswith("!"), _pattern(line.lstrip("!"))) for line in patterns]
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if not _is_ignored(path, rules)]


def _pattern(glob: str) -> re.Pattern[str]:
    text = re.escape(glob).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(f"{text}(?:/.*)?")


def _is_ignored(path: str, rules: Sequence[tuple[bool, re.Pattern[str]]]) -> bool:
    verdicts = [ignored for ignored, pattern in rules if pattern.fullmatch(path)]
    return bool(verdicts) and verdicts[-1]


def debian(suite: str, folder: Path) -> Path:
    """Install a Debian with its own Python as `python`, unless the folder has one."""
    if not (folder / "usr/local/bin/python").is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        include = f"--include={','.join(PACKAGES)}"
        _run(["debootstrap", "--variant=minbase", include, suite, str(folder)])
        for name in FROM_THE_MACHINE:
            if Path("/", name).is_file():
                shutil.copyfile(Path("/", name), folder / name)
        (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    return folder


class Build:
    """One pass over a Dockerfile.

    Parameters
    ----------
    source
        The build's context.
    ignore
        The text of its dockerignore.
    base
        The files of every `FROM`.
    folder
        For the stages.
    """

    def __init__(self, source: Path, ignore: str, base: Path, folder: Path) -> None:
        self._source, self._base, self._folder = source, base, folder
        self._context = context(source, ignore)
        self._stages: dict[str, Stage] = {}
        self._arguments: dict[str, str] = {}
        self._stage = Stage(base)

    def run(self, dockerfile: str) -> Stage:
        """Run all instructions; return the last stage."""
        for name, rest in instructions(dockerfile):
            if name not in IGNORED:
                getattr(self, f"_{name.lower()}")(rest)
        return self._stage

    def _from(self, rest: str) -> None:
        name = rest.partition(" AS ")[2] or "final"
        self._stage = self._stages[name] = Stage(self._folder / name)
        shutil.rmtree(self._stage.root, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        _run(["cp", "-a", str(self._base), str(self._stage.root)])

    def _arg(self, rest: str) -> None:
        name, _, default = rest.partition("=")
        self._arguments[name] = default

    def _env(self, rest: str) -> None:
        for part in shlex.split(rest):
            name, _, value = part.partition("=")
            self._stage.env[name] = value.replace("$PATH", self._stage.env["PATH"])

    def _workdir(self, rest: str) -> None:
        self._stage.workdir = rest
        self._stage.path(rest).mkdir(parents=True, exist_ok=True)

    def _user(self, rest: str) -> None:
        self._stage.user = rest

    def _copy(self, rest: str) -> None:
        words = rest.split()
        options = dict(word.lstrip("-").split("=") for word in words if word.startswith("--"))
        *sources, to = [word for word in words if not word.startswith("--")]
        target = self._stage.path(to if to.startswith("/") else f"{self._stage.workdir}/{to}")
        if "from" in options:
            _run(["cp", "-a", str(self._stages[options["from"]].path(sources[0])), str(target)])
            return
        for source in sources:
            self._copy_from_context(source, target, is_folder=to.endswith("/"))
        if "chmod" in options:
            target.chmod(int(options["chmod"], 8))

    def _copy_from_context(self, source: str, target: Path, *, is_folder: bool) -> None:
        found = [path for path in self._context if path == source or path.startswith(f"{source}/")]
        assert found, f"{source} is not in the build's context: see the dockerignore"
        for path in found:
            inner = Path(path).name if is_folder and path == source else Path(path).relative_to(source)
            to = target / inner
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._source / path, to)

    def _run(self, rest: str) -> None:
        stage = self._stage
        _run(isolated(stage, ["sh", "-c", rest], stage.env | self._arguments))

    def _entrypoint(self, rest: str) -> None:
        self._stage.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self._stage.command = json.loads(rest)

    def _healthcheck(self, rest: str) -> None:
        self._stage.healthcheck = json.loads(rest.partition("CMD ")[2])


def isolated(
    stage: Stage,
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    mounts: Sequence[str] = (),
    read_only: bool = False,
) -> list[str]:
    """Return the command that runs `command` inside a stage, in a mount namespace of its own.

    Parameters
    ----------
    stage
        Gives the root, the user and the working folder; a user other than root has no capability.
    env
        The whole environment.
    mounts
        Further lines of shell that mount something below `$ROOT`.
    read_only
        Allow writing below `mounts` alone.
    """
    user, _, group = stage.user.partition(":")
    drop = (
        [] if user == "0" else ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    )
    inside = ["setpriv", f"--reuid={user}", f"--regid={group}", *(drop or ["--clear-groups"])]
    inside += ["env", "-i", f"--chdir={stage.workdir}", *(f"{name}={value}" for name, value in env.items())]
    script = [
        "set -eu",
        f"ROOT={shlex.quote(str(stage.root))}",
        'mount --bind "$ROOT" "$ROOT"',
        *(['mount -o remount,ro,bind "$ROOT"'] if read_only else []),
        'mount --rbind /dev "$ROOT/dev"',
        'mount -t proc proc "$ROOT/proc"',
        *mounts,
        f'exec chroot "$ROOT" {shlex.join([*inside, *command])}',
    ]
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", "\n".join(script)]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, (
        f"{shlex.join(command)}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
