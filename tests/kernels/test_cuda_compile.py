"""Compilation through NVRTC and its cache, without a GPU."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.wkv7_cuda import compile as compiler
from fseed_kernels.wkv7_cuda.compile import Binary, compile_file, kernel_table
from fseed_kernels.wkv7_cuda.load import Parameters, parameters_of

FILES = sorted({kernel.file for kernel in kernel_table().values()})


def nvrtc_problem() -> str:
    """Return why nothing can be compiled here; "" where it can."""
    try:
        compiler._nvrtc_version()
    except KernelUnavailable as error:
        return str(error)
    return ""


needs_nvrtc = pytest.mark.skipif(bool(nvrtc_problem()), reason=nvrtc_problem() or "NVRTC is here")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend to compile; gives the files that were asked for."""
    asked: list[str] = []

    def pretend(file: str, architecture: int) -> Binary:
        asked.append(file)
        return Binary(f"{file} {architecture}".encode(), "log")

    monkeypatch.setattr(compiler, "_compile", pretend)
    monkeypatch.setattr(compiler, "_nvrtc_version", lambda: (13, 0))
    monkeypatch.setattr(compiler, "_known_architectures", lambda: [80, 90])
    return asked


@needs_nvrtc
@pytest.mark.parametrize("architecture", [pytest.param(80, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize(
    # the chained kernels hold two roles each and take seconds
    "file",
    [pytest.param(f, marks=pytest.mark.slow) if "chained" in f else f for f in FILES],
)
def test_every_file_compiles_without_spills(file: str, architecture: int) -> None:
    binary = compile_file(file, architecture, None)
    assert binary.cubin[:4] == b"\x7fELF"
    names = re.findall(r"Compiling entry function '(\w+)'", binary.log)
    assert sorted(names) == sorted(k.name for k in kernel_table().values() if k.file == file)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", binary.log)
    assert len(spills) == 2 * len(names)
    assert set(spills) == {"0"}, binary.log


def test_second_time_comes_from_the_cache(compilations: list[str], tmp_path: Path) -> None:
    first = compile_file("forward_scan.cu", 90, tmp_path)
    assert compile_file("forward_scan.cu", 90, tmp_path).cubin == first.cubin
    assert compilations == ["forward_scan.cu"]
    assert compile_file("forward_scan.cu", 80, tmp_path).cubin != first.cubin
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_damaged_entry_is_compiled_again(
    damage: str, compilations: list[str], tmp_path: Path
) -> None:
    first = compile_file("forward_scan.cu", 90, tmp_path)
    (entry,) = tmp_path.iterdir()
    content = bytearray(entry.read_bytes())
    content[-1] ^= 1
    entry.write_bytes({"cut": content[:40], "empty": b"", "changed": content}[damage])
    assert compile_file("forward_scan.cu", 90, tmp_path).cubin == first.cubin
    assert len(compilations) == 2
    assert compile_file("forward_scan.cu", 90, tmp_path).cubin == first.cubin
    assert len(compilations) == 2


def test_key_depends_on_sources_version_and_options(
    compilations: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = compiler._read_sources()
    changes = (
        ("_read_sources", lambda: sources | {"tile.h": b"// other"}),
        ("_read_sources", lambda: sources | {"forward_scan.cu": b"// other"}),
        ("_nvrtc_version", lambda: (13, 1)),
        ("OPTIONS", ("--std=c++20",)),
    )
    compile_file("forward_scan.cu", 90, tmp_path)
    for attribute, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(compiler, attribute, value)
            compile_file("forward_scan.cu", 90, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(compilations) == 1 + len(changes)


def test_cache_off_keeps_nothing(compilations: list[str]) -> None:
    compile_file("forward_scan.cu", 90, None)
    assert compile_file("forward_scan.cu", 90, None).log == "log"
    assert len(compilations) == 2


def test_unwritable_cache_warns_and_goes_on(compilations: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="not kept"):
        assert compile_file("forward_scan.cu", 90, tmp_path / "file").cubin


def test_many_at_once(compilations: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: compile_file("tile.h", 90, tmp_path).cubin, range(32)))
    assert len(set(found)) == 1
    (entry,) = tmp_path.iterdir()  # no unfinished file is left
    assert entry.suffix == ".cubin"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [(75, "8.0 or newer"), (130, "does not know compute capability 13.0")],
)
def test_refused_architectures(architecture: int, message: str, compilations: list[str]) -> None:
    with pytest.raises(KernelUnavailable, match=message):
        compile_file("forward_scan.cu", architecture, None)
    assert not compilations


def test_missing_bindings_name_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(compiler, "import_module", missing)
    with pytest.raises(KernelUnavailable, match="pip install cuda-bindings"):
        compiler.bindings("nvrtc")


@needs_nvrtc
def test_a_failed_compilation_shows_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = compiler._read_sources() | {"broken.cu": b"__global__ void f() { missing(); }"}
    monkeypatch.setattr(compiler, "_read_sources", lambda: sources)
    with pytest.raises(RuntimeError, match=r"NVRTC_ERROR_COMPILATION(.|\n)*missing"):
        compile_file("broken.cu", 90, None)


def test_parameters_lie_as_in_c() -> None:
    separate = Parameters.separate("PiPfi")
    assert separate.offsets == (0, 8, 16, 24, 28)
    assert Parameters.together("Pfii").values.size == 24  # padded to the pointer's alignment
    for name in kernel_table():
        assert parameters_of(name).values.size > 0
