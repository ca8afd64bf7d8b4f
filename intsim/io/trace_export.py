# SPDX-License-Identifier: Apache-2.0
"""A trace in the files that its name asks for: safetensors, npz, or a folder of hexadecimal memory images."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from intsim._trace import Trace
from intsim.errors import IntsimError
from intsim.io.atomic import check_folder_writable, check_writable
from intsim.io.export_kind import EXPORT
from intsim.io.exported import Contents, trace_contents
from intsim.io.layout import Layout
from intsim.io.memh_export import write_memh
from intsim.io.npz_export import NPZ, write_npz
from intsim.io.safetensors_file import read
from intsim.io.trace_file import TRACE, check_manifest, describe_trace, write_trace
from intsim.models.constants import Constants

__all__ = ["check_trace_writable", "read_trace_contents", "save_trace", "trace_form"]

Form: TypeAlias = Literal["safetensors", "npz", "memh"]


def trace_form(path: str) -> Form:
    """Return what a trace of this name is written as.

    ``NAME.npz`` is an npz; ``NAME/``, ``NAME.memh`` and a folder that is there a folder of hexadecimal files;
    ``NAME.safetensors``, a name without a suffix, a pipe and a device take the file that ``diagnose`` and ``replay``
    read.

    Raises
    ------
    IntsimError
        If the name has another suffix.
    """
    file = Path(path)
    if path.endswith("/") or file.suffix == ".memh" or file.is_dir():
        return "memh"
    if file.suffix == ".npz":
        return "npz"
    if file.suffix in {"", ".safetensors"} or (file.exists() and not file.is_file()):
        return "safetensors"
    msg = f"trace must be called NAME.safetensors, NAME.npz, or NAME/ or NAME.memh for a folder of memh, got {path!r}"
    raise IntsimError(msg)


def check_trace_writable(path: str) -> None:
    """Refuse what ``save_trace`` could not write, before the run whose trace it would be.

    Raises
    ------
    IntsimError
        As ``save_trace``.
    """
    match trace_form(path):
        case "safetensors":
            check_writable(Path(path), TRACE)
        case "npz":
            check_writable(Path(path), NPZ)
        case "memh":
            check_folder_writable(Path(path), EXPORT)


def save_trace(path: str, trace: Trace, model: Constants) -> None:
    """Write a trace, taken of ``model``: complete, or not at all.

    Raises
    ------
    IntsimError
        If it cannot be written, is something else, or its name has another suffix.
    """
    form = trace_form(path)
    if form == "safetensors":
        write_trace(Path(path), trace, model)
        return
    tensors, manifest = describe_trace(trace, model)
    contents = trace_contents(
        tensors, manifest, _about(trace.level, model.profile.to_json(), model.profile.hash, model.digest)
    )
    if form == "npz":
        write_npz(Path(path), contents)
    else:
        write_memh(Path(path), contents, Layout())


def read_trace_contents(path: Path, model: Constants, *, layer: str | None = None) -> Contents:
    """Return what is to be exported of the trace in a file.

    Raises
    ------
    IntsimError
        If it is no trace of ``model``, or ``layer`` is none of its names.
    """
    tensors, metadata = read(path)
    profile = check_manifest(str(path), tensors, metadata)
    if (digest := metadata.get("model_digest")) != model.digest:
        msg = f"{path} must be a trace of this model, {model.digest[:12]}, got one of {str(digest)[:12]}"
        raise IntsimError(msg)
    about = _about(metadata["level"], profile.to_json(), profile.hash, model.digest)
    return _contents(path, tensors, metadata, about, layer)


def _contents(
    path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, Any], about: dict[str, Any], layer: str | None
) -> Contents:
    try:
        return trace_contents(tensors, metadata["trace"], about, layer=layer)
    except (AttributeError, LookupError, TypeError) as error:
        msg = f"{path} must hold what its calls need, got a damaged manifest; run the model again"
        raise IntsimError(msg) from error


def _about(level: str, profile: dict[str, Any], profile_hash: str, digest: str) -> dict[str, Any]:
    return {"level": level, "profile": profile, "profile_hash": profile_hash, "model_digest": digest}
