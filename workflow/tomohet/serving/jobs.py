"""Jobs of the server: one reconstruction at a time, in a process of its own that can be ended any time."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tomohet.errors import InputError
from tomohet.files.locks import writing
from tomohet.serving.means import PREFIX, Mean, described

PATIENCE_S = 3  # between the request to end and the end by force
LONGEST_LINE = 2**20  # bytes
PROGRESS = re.compile(r"(\w[\w ]*): (\d+) of (\d+) ")
PART = re.compile(rf"\.{PREFIX}[0-9a-f]+\.part")


@dataclass
class Job:
    """A reconstruction that waits, runs or has failed; a finished one is a folder, and no job."""

    mean: Mean
    task: asyncio.Task | None = None
    state: str = "waiting"
    said: str = ""

    def described(self) -> dict:
        """Describe the job for the page."""
        known = {"job": self.mean.name, "state": self.state, **self.mean.request, "said": self.said}
        counted = PROGRESS.search(self.said)
        if counted:
            known["progress"] = int(counted[2]) / max(int(counted[3]), 1)
        return known


class Jobs:
    """The reconstructions that were asked for since the start, and the folder of those that are complete."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        self.folder, self.threads = folder, threads
        self.jobs: dict[str, Job] = {}
        self.turn = asyncio.Lock()  # the first to wait is the first to run

    def ask(self, mean: Mean) -> dict:
        """Describe a mean that is complete or asked for already; start the job of any other."""
        known = self.jobs.get(mean.name)
        if (self.folder / mean.name).is_dir():
            return described(self.folder / mean.name)
        if known is None or known.state == "failed":
            known = self.jobs[mean.name] = Job(mean)
            known.task = asyncio.create_task(self._work(known))
        return known.described()

    def status(self, name: str) -> dict | None:
        """Describe a job or a complete mean by its name; None when there is none."""
        if name in self.jobs:
            return self.jobs[name].described()
        complete = re.fullmatch(rf"{PREFIX}[0-9a-f]+", name) and (self.folder / name).is_dir()
        return described(self.folder / name) if complete else None

    async def cancel(self, name: str) -> bool:
        """End a job and remove what it has written; say whether there was one."""
        job = self.jobs.pop(name, None)
        if job is None or job.task is None:
            return False
        job.task.cancel()
        await asyncio.gather(job.task, return_exceptions=True)
        return True

    async def close(self) -> None:
        """End all jobs."""
        await asyncio.gather(*(self.cancel(name) for name in list(self.jobs)))

    def remove_leftovers(self) -> None:
        """Remove incomplete folders of a server that was killed, unless their command still runs."""
        for part in self.folder.iterdir():
            if PART.fullmatch(part.name) and part.is_dir():
                with contextlib.suppress(InputError):
                    with writing(part):
                        pass
                    shutil.rmtree(part)

    async def _work(self, job: Job) -> None:
        async with self.turn:
            job.state = "running"
            final, part = self.folder / job.mean.name, self.folder / f".{job.mean.name}.part"
            try:
                job.mean.write_request(part, final)
                status = await self._run(job, job.mean.command(part))
                if status == 0:
                    os.replace(part, final)
                    self.jobs.pop(job.mean.name, None)
                    return
                job.state = "failed"
                job.said = job.said or f"The command ended with status {status}."
            except (OSError, ValueError) as error:  # a full disk; a line without end
                job.state, job.said = "failed", str(error)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    async def _run(self, job: Job, command: list[str]) -> int:
        """Run a command, keep the last line that it says, and return its exit status."""
        environment = dict(os.environ)
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            limit=LONGEST_LINE,
            start_new_session=True,  # Ctrl-C in the terminal reaches the server alone, which ends its jobs
        )
        try:
            async for line in process.stderr:
                text = line.decode(errors="replace").strip()
                sys.stderr.write(f"{job.mean.name}: {text}\n")
                job.said = text.split("     ", 1)[-1].removeprefix("error: ") or job.said
            return await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), PATIENCE_S)
                except TimeoutError:
                    process.kill()
                    await process.wait()
