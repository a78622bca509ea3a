"""A container's surroundings without one: a mount namespace, a read-only root, the image's folders and its user.

Below a read-only overlay of this machine's root lie what the image has (`/opt/venv`, an empty home, user 1000) and what
a pod mounts: `/tmp`, `/dev/shm`, `/storage`, and the files of a ConfigMap. Only root can make one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile
from tests.processes import MARK, Command, Process, processes

ROOT = Path(__file__).parents[2]
USER = 1000
IMAGE = Dockerfile.read(ROOT / "deploy" / "docker" / "Dockerfile").environment("cpu")
FILES = "/etc/raysched/sweep"
SCRIPT = """
mount --make-rprivate /
mount -t tmpfs none {work}
mkdir {work}/upper {work}/work {work}/root
mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/work {work}/root
cd {work}/root
for folder in proc sys dev; do mount --rbind /$folder $folder; done
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=1777,size=512m none dev/shm
chmod 755 root
for needed in {needed}; do
  mkdir -p ".$needed"
  mount --bind "$needed" ".$needed"
  mount -o remount,ro,bind ".$needed"
done
rm -rf opt/venv && mkdir -p opt storage home/raysched etc/profile.d .{files}
ln -s {venv} opt/venv
echo 'export PATH={path}' > etc/profile.d/raysched.sh
printf 'root:x:0:0::/root:/bin/bash\\nraysched:x:{user}:{user}::/home/raysched:/bin/bash\\n' > etc/passwd
printf 'root:x:0:\\nraysched:x:{user}:\\n' > etc/group
mount --bind {storage} storage
mount --bind {given} .{files}
mount -o remount,ro,bind .{files}
mount -o remount,ro .
exec chroot --userspec={user}:{user} --groups={user} . /bin/bash -lc {command}
"""


def why_not(folder: Path) -> str | None:
    """Why no such surroundings can be made here."""
    if os.geteuid() != 0:
        return "only root can make mount namespaces"
    if missing := [tool for tool in ("unshare", "mount", "chroot") if shutil.which(tool) is None]:
        return f"there is no {', '.join(missing)} here"
    for name in ("storage", "files", "probe"):
        (folder / name).mkdir(parents=True)
    done = Pod(folder / "probe", folder / "storage", folder / "files").run("touch /tmp/x && ! touch ~/x /x 2>/dev/null")
    return f"no read-only root can be made: {done.stderr.strip()[-300:]}" if done.returncode else None


@dataclass(frozen=True)
class Pod:
    """`folder` holds its output and marks its processes; `files` are mounted at `FILES`."""

    folder: Path
    storage: Path
    files: Path

    def start(self, command: str, environment: Mapping[str, str]) -> Command:
        """Run a shell's line as the operator does: in a login shell, as user 1000."""
        output = self.folder / "output.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                self._command(command),
                cwd="/",
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Command(process, output)

    def run(self, command: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(command),
            cwd="/",
            env=self._environment(environment or {}),
            capture_output=True,
            text=True,
            timeout=180,
        )

    def processes(self) -> list[Process]:
        return processes(self.folder)

    def workers(self) -> list[Process]:
        """Processes that execute adapter runs."""
        return [one for one in self.processes() if "Trainable" in one.command.split(" ")[0]]

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**IMAGE, "OMP_NUM_THREADS": "1", MARK: str(self.folder), **more}

    def _command(self, command: str) -> list[str]:
        work = self.folder / "mounts"
        work.mkdir(exist_ok=True)
        needed = dict.fromkeys([str(ROOT), sys.prefix, sys.base_prefix])
        script = SCRIPT.format(
            work=shlex.quote(str(work)),
            needed=" ".join(map(shlex.quote, needed)),
            venv=shlex.quote(sys.prefix),
            path=IMAGE["PATH"],
            user=USER,
            storage=shlex.quote(str(self.storage)),
            given=shlex.quote(str(self.files)),
            files=FILES,
            command=shlex.quote(f"cd ~ && {command}"),
        )
        return ["unshare", "--mount", "/bin/bash", "-euc", script]
