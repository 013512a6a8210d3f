"""The server's addresses: the report, files, volumes, means and slabs of one results folder."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tomohet.device import device_of
from tomohet.errors import InputError
from tomohet.files.tables import read_table
from tomohet.files.text import read_yaml
from tomohet.rounds import layout
from tomohet.serving.asked import MeanAsked, SlabAsked, VolumeAsked, body_of, query_of
from tomohet.serving.guard import Guard
from tomohet.serving.jobs import Jobs
from tomohet.serving.kept_page import KeptPage
from tomohet.serving.means import Mean, chosen_particles, finished, mean_of, section
from tomohet.serving.models import sources, volume_file
from tomohet.serving.results_files import find, sent
from tomohet.serving.slabs import slab_image, tomogram_file

# The report is one page of our own scripts and styles; it talks to this server alone.
PAGE_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Site:
    """What is served.

    results : results folder of a dataset; only read
    folder : folder of the maps that are reconstructed
    tomograms : folder of tomograms, or None
    device : as for `--device`
    threads : of each computation, or None for all
    """

    results: Path
    folder: Path
    tomograms: Path | None = None
    device: str = "auto"
    threads: int | None = None


def application(site: Site, token: str) -> Starlette:
    """Build the server's application. Every answer is computed from the files as they are."""
    server = Answers(site)
    routes = [
        Route("/", server.page),
        Route("/round", server.round),
        Route("/volume", server.volume, methods=["POST"]),
        Route("/mean", server.means, methods=["GET"]),
        Route("/mean", server.mean, methods=["POST"]),
        Route("/mean", server.cancel, methods=["DELETE"]),
        Route("/slab", server.slab),
        Route("/{address:path}", server.file),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={HTTPException: _refused, InputError: _mistaken},
        lifespan=server.lifespan,
    )


class Answers:
    """The answer to each address."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.jobs = Jobs(site.folder, site.threads)
        self.kept = KeptPage(site.results)
        self.one_at_a_time = anyio.CapacityLimiter(1)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.jobs.remove_leftovers()
        yield
        await self.jobs.close()

    async def page(self, _request: Request) -> Response:
        """GET / : the report."""
        text = await self._aside(self.kept.text)
        return HTMLResponse(text, headers={"content-security-policy": PAGE_POLICY})

    async def round(self, request: Request) -> Response:
        """GET /round?round=NAME : the round's models, its means, and the names of its tomograms."""
        name = request.query_params.get("round", "")
        asked = [job.described() for job in self.jobs.jobs.values()]

        def described() -> dict:
            table = self._table(name)
            means = [*finished(self.site.folder), *asked]
            has_slabs = self.site.tomograms is not None and "tomogram" in table
            tomograms = sorted(table["tomogram"].astype(str).unique()) if has_slabs else []
            return {
                "sources": sources(self._folder(name)),
                "means": [mean for mean in means if mean["round"] == name],
                "tomograms": tomograms,
            }

        return JSONResponse(await self._aside(described))

    async def volume(self, request: Request) -> Response:
        """POST /volume : the MRC file of the map at a latent point."""
        asked = await body_of(request, VolumeAsked)
        folder = self._folder(asked.round)
        form = section(self._config(), "volumes", asked.round)
        if asked.box is not None:
            form["downsample"] = asked.box
        device = device_of(self.site.device)
        content = await self._aside(lambda: volume_file(folder, asked.source, asked.z, form, device))
        disposition = {"content-disposition": f'attachment; filename="{asked.source}.mrc"'}
        return Response(content, media_type="application/octet-stream", headers=disposition)

    async def mean(self, request: Request) -> Response:
        """POST /mean : start to reconstruct the mean of particles, or return the one that is there."""
        asked = await body_of(request, MeanAsked)

        def wanted() -> Mean:
            table = self._table(asked.round)
            particles = chosen_particles(table, asked.particles, asked.rows, asked.query)
            return mean_of(
                self.site.results,
                self._config(),
                asked.round,
                particles,
                query=asked.query,
                label=asked.name,
                refine_poses=asked.refine_poses,
                device=self.site.device,
            )

        found = self.jobs.ask(await self._aside(wanted))
        return JSONResponse(found, status_code=200 if found["state"] == "done" else 202)

    async def means(self, request: Request) -> Response:
        """GET /mean?job=NAME : the state of a reconstruction."""
        found = self.jobs.status(request.query_params.get("job", ""))
        if found is None:
            raise HTTPException(404, "There is no such reconstruction; ask for it by POST /mean.")
        return JSONResponse(found)

    async def cancel(self, request: Request) -> Response:
        """DELETE /mean?job=NAME : end a reconstruction that waits or runs."""
        if not await self.jobs.cancel(request.query_params.get("job", "")):
            raise HTTPException(404, "There is no such reconstruction that waits or runs.")
        return JSONResponse({"state": "cancelled"})

    async def slab(self, request: Request) -> Response:
        """GET /slab?tomogram=NAME&z=A&thickness=A : a PNG; its description is in headers."""
        asked = query_of(request, SlabAsked)
        folder = self.site.tomograms
        if folder is None:
            raise HTTPException(404, "No tomograms are served; start the server with --tomograms FOLDER.")
        image, described = await self._aside(
            lambda: slab_image(tomogram_file(folder, asked.tomogram), asked.z, asked.thickness)
        )
        headers = {f"x-{name.replace('_', '-').lower()}": f"{value:.6g}" for name, value in described.items()}
        return Response(image, media_type="image/png", headers=headers)

    async def file(self, request: Request) -> Response:
        """GET /PATH : a file or the list of a folder of the results."""
        address = request.path_params["address"]
        return sent(find(address, self.site.results, self.site.folder), address)

    async def _aside(self, work: Callable[[], Any]) -> Any:
        """Run work that takes the processor in a thread, one at a time; the end of the server leaves it."""
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self.one_at_a_time)

    def _folder(self, name: str) -> Path:
        """Return a round's folder; raises HTTPException 404 for a name that is no round's."""
        folders = [path for path in self.site.results.iterdir() if path.name == name]
        if not folders or not (folders[0] / layout.TABLE).is_file():
            raise HTTPException(404, f"There is no round {name!r} with a particle table.")
        return folders[0]

    def _table(self, name: str) -> pd.DataFrame:
        return read_table(self._folder(name) / layout.TABLE, {"particle": "whole numbers"})

    def _config(self) -> dict:
        path = self.site.results / layout.CONFIG
        config = read_yaml(path) if path.is_file() else {}
        return config if isinstance(config, dict) else {}


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _mistaken(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)
