"""Reader of masks: tolerated rounding, refused values, and its use by every command."""

import numpy as np
import pytest
from analysis_fakes import run

from tomohet.analysis.maven.units import read_masks
from tomohet.errors import InputError
from tomohet.files.grids import MapGrid
from tomohet.files.masks import read_mask
from tomohet.files.mrc import read_volume, write_volume

BOX, PIXEL_A = 24, 14.0
RADIUS = np.linalg.norm(np.indices((BOX,) * 3) - BOX // 2, axis=0)
SPHERE = (RADIUS < 6).astype(np.float32)
N_INSIDE = int(SPHERE.sum())


def written(path, mask, pixel_size_A=PIXEL_A):
    write_volume(path, mask, pixel_size_A)
    return path


pytestmark = pytest.mark.filterwarnings("ignore:Data array contains", "ignore:invalid value")


@pytest.mark.parametrize(
    "mask",
    [
        SPHERE + np.random.default_rng(0).normal(0, 2e-8, SPHERE.shape),
        np.maximum(SPHERE, 2e-8),
        np.where(SPHERE > 0, 1.0008, -0.0008),
        SPHERE.astype(np.float16) + np.float16(3e-4),
    ],
    ids=["rounding", "floor", "resampled", "half precision"],
)
def test_rounding_is_taken_for_0_and_1(tmp_path, mask):
    found = read_mask(written(tmp_path / "m.mrc", mask), BOX, PIXEL_A)
    assert found.dtype == np.float32
    assert np.count_nonzero(found) == N_INSIDE
    np.testing.assert_allclose(found, SPHERE, atol=2e-3)


def test_a_soft_edge_stays(tmp_path):
    soft = np.clip((8 - RADIUS) / 4, 0, 1)
    np.testing.assert_array_equal(
        read_mask(written(tmp_path / "m.mrc", soft), BOX, PIXEL_A), soft.astype(np.float32)
    )


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.where(RADIUS > 10, np.nan, SPHERE), "voxels of the mask are NaN or infinite"),
        (np.where(RADIUS > 10, np.inf, SPHERE), "voxels of the mask are NaN or infinite"),
        (0 * SPHERE, "the mask is empty"),
        (0 * SPHERE + 2e-8, "the mask is empty"),
        (255 * SPHERE, "values from 0 to 255, expected a mask from 0 to 1"),
        (SPHERE - 0.5, "values from -0.5 to 0.5, expected a mask from 0 to 1"),
        (SPHERE[:, :, 1:], r"a mask of shape \(24, 24, 23\), expected \(24, 24, 24\)"),
    ],
)
def test_no_mask_is_refused_in_one_line(tmp_path, mask, expected):
    with pytest.raises(InputError, match=expected) as error:
        read_mask(written(tmp_path / "m.mrc", mask), BOX, PIXEL_A)
    assert str(tmp_path / "m.mrc") in str(error.value) and "\n" not in str(error.value)


def test_the_pixel_size_is_compared_where_the_header_has_one(tmp_path):
    with pytest.raises(InputError, match="a mask of 7 Å per voxel, expected 14 Å"):
        read_mask(written(tmp_path / "m.mrc", SPHERE, 7.0), BOX, PIXEL_A)
    assert read_mask(written(tmp_path / "m.mrc", SPHERE, 14.01), BOX, PIXEL_A).any()
    assert read_mask(written(tmp_path / "m.mrc", SPHERE, 0.0), BOX, PIXEL_A).any()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Four volumes of one ball of varying density, and noise."""
    folder, rng = tmp_path_factory.mktemp("volumes"), np.random.default_rng(0)
    for number in range(4):
        noisy = SPHERE * rng.uniform(0.5, 1.5) + 0.02 * rng.normal(size=SPHERE.shape)
        write_volume(folder / f"vol_{number:03d}.mrc", noisy, PIXEL_A)
    return folder


def test_maven_counts_the_voxels_of_a_mask_with_a_floor(tmp_path):
    (tmp_path / "masks").mkdir()
    written(tmp_path / "masks" / "ball.mrc", np.maximum(SPHERE, 2e-8))
    found = read_masks(tmp_path / "masks", MapGrid((BOX,) * 3, PIXEL_A, (0.0, 0.0, 0.0)))
    assert found.table["voxels"].tolist() == [N_INSIDE]
    assert found.masks.nnz == N_INSIDE


@pytest.mark.parametrize("command", ["maven", "analyze_volumes", "siren", "backproject_voxel"])
def test_every_command_refuses_nan_in_a_mask(tmp_path, volumes, tiny_store, command):
    bad = tmp_path / "masks" / "block_1.mrc"
    bad.parent.mkdir()
    written(bad, np.where(RADIUS > 10, np.nan, SPHERE))
    arguments = {
        "maven": ("--volumes", volumes, "--masks", bad.parent),
        "analyze_volumes": ("--voldir", volumes, "--mask-path", bad),
        "siren": ("--volumes", volumes, "--blocks", bad.parent),
        "backproject_voxel": (tiny_store, "--mask", bad),
    }[command]
    with pytest.raises(InputError, match="NaN or infinite") as error:
        run(command, *arguments, "-o", tmp_path / "out")
    assert str(error.value).startswith(str(bad))
    assert not list((tmp_path / "out").glob("*.mrc"))


def test_a_mask_with_rounding_gives_the_map_of_the_same_mask_without(tmp_path, tiny_store):
    for name, mask in {"clean": SPHERE, "rounding": SPHERE - np.float32(2e-8)}.items():
        path = written(tmp_path / f"{name}.mrc", mask)
        run("backproject_voxel", tiny_store, "-o", tmp_path / name, "--mask", path)
    maps = [read_volume(tmp_path / name / "map.mrc")[0] for name in ("clean", "rounding")]
    np.testing.assert_array_equal(*maps)
