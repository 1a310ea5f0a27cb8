"""One record for every kind of dictionary, and its encode(). No file format but our own is known here.

A row x (d_in,) becomes F activations and comes back as n_out outputs:

    x'  = input_norm(x) - b_dec            (b_dec only where subtract_b_dec)
    h   = x' @ w_enc + b_enc               (times the decoder's norms where select_by_decoder_norm)
    a   = activation(h)
    out = input_norm^-1(a @ w_dec + b_dec) + x @ w_skip
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from featuredb.activation_functions import Activation, matching_pursuit
from featuredb.errors import BadInput, NotFound, PluginFailed, nearest

FORMAT = "featuredb.dictionary.v1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_ARRAYS = ("w_enc", "b_enc", "w_dec", "b_dec", "w_skip")
_CHECKED_AT_ONCE = 1 << 24
"""Values tested for NaN in one go, so that a dictionary of gigabytes is checked in megabytes."""


@dataclass(frozen=True, eq=False)
class InputNorm:
    """What is done to an input row before encoding, and undone to the output."""

    kind: Literal["none", "layer_norm", "l2_to_sqrt_d", "affine"] = "none"
    mean: torch.Tensor | None = None
    factor: torch.Tensor | None = None
    """affine: (x - mean) * factor, each (d_in,) or a single number; either may be left out."""
    undone: bool = True
    """Whether the output is brought back to the input's units; sae-lens does not for transcoders."""

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """The normalised rows, and the function that undoes it for the same rows of output."""
        if self.kind == "layer_norm":
            mean = x.mean(dim=-1, keepdim=True)
            centred = x - mean
            spread = centred.std(dim=-1, keepdim=True)
            # eps only on the way in: as the publisher's library does.
            return centred / (spread + 1e-5), lambda y: y * spread + mean
        if self.kind == "l2_to_sqrt_d":
            factor = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
            return x * factor, lambda y: y / factor
        if self.kind == "affine":
            mean = x.new_zeros(()) if self.mean is None else self.mean
            factor = x.new_ones(()) if self.factor is None else self.factor
            return (x - mean) * factor, lambda y: y / factor + mean
        return x, lambda y: y

    def tensors(self) -> dict[str, torch.Tensor]:
        return {name: value for name in ("mean", "factor") if (value := getattr(self, name)) is not None}

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, "undone": self.undone}

    def to(self, device: torch.device, dtype: torch.dtype) -> InputNorm:
        moved: dict[str, Any] = {name: value.to(device, dtype) for name, value in self.tensors().items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class TrainedOn:
    """How a dictionary was trained, as far as its publisher says; None where it does not."""

    model: str | None = None
    context_length: int | None = None
    prepend_bos: bool | None = None
    dtype: str | None = None
    corpus: str | None = None


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder, transcoder or other basis, in one form. Checked when made; equal by `fingerprint`.

    Raises BadInput on arrays that do not meet, or hold NaN or infinity (naming array and row).
    """

    name: str
    """What users call it: letters, digits, dots, dashes and underscores, at most 120."""
    kind: str
    """"sae", "transcoder", ..."""
    hook: str
    """What it reads, `layers.8.resid_post`; the publisher's own name where our grammar has none."""
    hooks_out: tuple[str, ...]
    """What it writes, one for each of n_out; of an SAE, its hook."""
    w_dec: torch.Tensor
    """(F, n_out, d_out)"""
    b_dec: torch.Tensor
    """(n_out, d_out)"""
    b_enc: torch.Tensor
    """(F,); zeros where the publisher has none"""
    activation: Activation
    w_enc: torch.Tensor | None = None
    """(d_in, F); None for matching pursuit, whose encoder is its decoder"""
    w_skip: torch.Tensor | None = None
    """(d_in, d_out), applied as x @ w_skip"""
    subtract_b_dec: bool = False
    """The encoder sees x - b_dec."""
    input_norm: InputNorm = field(default_factory=InputNorm)
    select_by_decoder_norm: bool = False
    """Pre-activations are multiplied by the decoder's row norms, activations stay so, decode divides again."""
    trained: TrainedOn = field(default_factory=TrainedOn)
    source: str = ""
    """The folder or address it came from."""
    plugin: str = ""
    """The versioned name of the plugin that read it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the publisher says, as JSON can hold it."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"{self.name!r} cannot name a dictionary", hint="use letters, digits, dots, dashes, _")
        self._check_shapes()
        for array, values in self.tensors().items():
            _check_finite(self.name, array, values)

    def _check_shapes(self) -> None:
        if self.w_dec.ndim != 3:
            raise BadInput(f"{self.name}: w_dec has shape {tuple(self.w_dec.shape)}, not (features, outputs, width)")
        n_features, n_out, d_out = self.w_dec.shape
        if min(self.w_dec.shape) == 0:
            raise BadInput(f"{self.name}: w_dec is empty, of shape {tuple(self.w_dec.shape)}")
        expected: dict[str, tuple[int, ...]] = {"b_enc": (n_features,), "b_dec": (n_out, d_out)}
        if self.w_enc is not None:
            expected["w_enc"] = (self.d_in, n_features)
        elif self.activation.kind != "matching_pursuit":
            raise BadInput(f"{self.name}: w_enc is missing")
        if self.w_skip is not None:
            expected["w_skip"] = (self.d_in, d_out)
        for array, shape in expected.items():
            found = tuple(getattr(self, array).shape)
            if found != shape:
                raise BadInput(f"{self.name}: {array} has shape {found}, and w_dec asks for {shape}")
        if self.subtract_b_dec and (n_out, d_out) != (1, self.d_in):
            raise BadInput(f"{self.name}: b_dec of shape {(n_out, d_out)} cannot be subtracted from {self.d_in} inputs")
        if len(self.hooks_out) != n_out:
            raise BadInput(f"{self.name}: {len(self.hooks_out)} output hooks for {n_out} outputs")
        for array, values in self.input_norm.tensors().items():
            if values.shape not in ((), (self.d_in,)):
                raise BadInput(f"{self.name}: input norm's {array} has shape {tuple(values.shape)}")
        self.activation.check(self.name, n_features)

    @property
    def n_features(self) -> int:
        return self.w_dec.shape[0]

    @property
    def n_out(self) -> int:
        return self.w_dec.shape[1]

    @property
    def d_out(self) -> int:
        return self.w_dec.shape[2]

    @property
    def d_in(self) -> int:
        return self.d_out if self.w_enc is None else self.w_enc.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.w_dec.dtype

    @property
    def device(self) -> torch.device:
        return self.w_dec.device

    @property
    def has_pre_activations(self) -> bool:
        """Whether encode(x) is activation(pre_activations(x)): everything but matching pursuit."""
        return self.activation.kind != "matching_pursuit"

    @cached_property
    def decoder_norms(self) -> torch.Tensor:
        """(F,) length of each feature's decoder, over all its outputs."""
        norms: torch.Tensor = torch.linalg.vector_norm(self.w_dec.flatten(1), dim=1)
        return norms

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the arrays and of every setting that changes what encode or decode return."""
        digest = hashlib.sha256(json.dumps(self._behaviour(), sort_keys=True).encode())
        for array, values in sorted(self.tensors().items()):
            digest.update(f"{array} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def pre_activations(self, x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """(n, F) values of rows (n, d_in) before the activation function, in the dictionary's own dtype.

        out: a buffer (n, F) of that dtype to write to, and then what is returned.
        """
        if self.w_enc is None:
            raise BadInput(f"{self.name}: matching pursuit has no pre-activations", hint="call encode()")
        pre: torch.Tensor = torch.addmm(self.b_enc, self._prepared(x), self.w_enc, out=out)
        if self.select_by_decoder_norm:
            pre *= self.decoder_norms
        return pre

    @torch.no_grad()
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """(n, F) float32 activations of rows (n, d_in), equal to the publisher's own."""
        if self.w_enc is None:
            return matching_pursuit(self._prepared(x), self.w_dec[:, 0], self.activation).float()
        return self.activation(self.pre_activations(x)).float()

    @torch.no_grad()
    def decode(self, acts: torch.Tensor) -> torch.Tensor:
        """(n, d_out) rows of activations (n, F), or (n, n_out, d_out) where there are several outputs.

        In the units of the normalised input, and without the skip: only reconstruct() knows x.
        """
        if acts.ndim != 2 or acts.shape[1] != self.n_features:
            raise BadInput(f"{self.name}: decode takes (n, {self.n_features}), not {tuple(acts.shape)}")
        acts = acts.to(self.device, self.dtype)
        if self.select_by_decoder_norm:
            # A feature without a decoder never fires; the floor keeps 0 / 0 out.
            acts = acts / self.decoder_norms.clamp(min=torch.finfo(self.dtype).tiny)
        out = (acts @ self.w_dec.flatten(1)).view(-1, self.n_out, self.d_out) + self.b_dec
        return out[:, 0] if self.n_out == 1 else out

    @torch.no_grad()
    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """The whole dictionary applied to rows (n, d_in): encoded, decoded, norm undone, skip added."""
        out = self.decode(self.encode(x))
        rows = x.to(self.device, self.dtype)
        if self.input_norm.undone:
            out = self.input_norm(rows)[1](out)
        if self.w_skip is not None:
            out = out + rows @ self.w_skip
        return out

    def folded_bias(self) -> torch.Tensor | None:
        """(F,) b_enc with the subtraction of b_dec in it, so that h = x @ w_enc + bias; None where x is normalised.

        Equal only up to rounding, which grows with b_dec's length: subtracting first is safer and costs little.
        """
        if self.w_enc is None or self.input_norm.kind != "none":
            return None
        if not self.subtract_b_dec:
            return self.b_enc
        shift = self.b_dec[0].double() @ self.w_enc.double()
        return (self.b_enc.double() - shift).to(self.dtype)

    def to(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Dictionary:
        """The same dictionary elsewhere, or in another floating dtype."""
        there = self.device if device is None else torch.device(device)
        kind = self.dtype if dtype is None else dtype
        moved = {name: value.to(there, kind) for name in _ARRAYS if (value := getattr(self, name)) is not None}
        return replace(
            self, activation=self.activation.to(there, kind), input_norm=self.input_norm.to(there, kind), **moved
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every array it has, by its name in a saved file."""
        arrays = {name: value for name in _ARRAYS if (value := getattr(self, name)) is not None}
        arrays |= {f"activation.{name}": value for name, value in self.activation.tensors().items()}
        return arrays | {f"input_norm.{name}": value for name, value in self.input_norm.tensors().items()}

    def save(self, path: Path) -> None:
        """Writes one safetensors file, with the settings as JSON in its metadata."""
        from safetensors.torch import save_file

        settings = self._behaviour() | {
            "name": self.name,
            "trained": asdict(self.trained),
            "source": self.source,
            "plugin": self.plugin,
            "extra": dict(self.extra),
        }
        arrays = {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}
        # One entry, for safetensors writes several in any order, and the same dictionary must give the same bytes.
        save_file(arrays, path, metadata={FORMAT: json.dumps(settings)})

    @staticmethod
    def read(path: Path) -> Dictionary:
        """The dictionary that save() wrote. Raises NotFound, or BadInput when the file is another or broken."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise NotFound(f"{path} is not a file")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        except SafetensorError as error:
            raise BadInput(f"{path} is not a whole safetensors file: {error}") from error
        if FORMAT not in metadata:
            raise BadInput(f"{path} is not a dictionary that featuredb wrote", hint=f"its format is not {FORMAT!r}")
        settings = json.loads(metadata[FORMAT])
        return Dictionary(
            **{name: arrays[name] for name in _ARRAYS if name in arrays},
            **{f.name: settings[f.name] for f in fields(Dictionary) if f.name in _PLAIN},
            hooks_out=tuple(settings["hooks_out"]),
            trained=TrainedOn(**settings["trained"]),
            activation=Activation(**settings["activation"], **_below("activation.", arrays)),
            input_norm=InputNorm(**settings["input_norm"], **_below("input_norm.", arrays)),
        )

    def _behaviour(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "hook": self.hook,
            "hooks_out": list(self.hooks_out),
            "subtract_b_dec": self.subtract_b_dec,
            "select_by_decoder_norm": self.select_by_decoder_norm,
            "activation": self.activation.settings(),
            "input_norm": self.input_norm.settings(),
        }

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise BadInput(
                f"{self.name} takes rows of width {self.d_in}, and was given shape {tuple(x.shape)}",
                hint=f"it was trained at {self.hook}",
            )
        rows = self.input_norm(x.to(self.device, self.dtype))[0]
        return rows - self.b_dec[0] if self.subtract_b_dec else rows


_PLAIN = ("name", "kind", "hook", "subtract_b_dec", "select_by_decoder_norm", "source", "plugin", "extra")


def load_dictionary(spec: str) -> list[Dictionary]:
    """The dictionaries at "saelens:FOLDER", "saelens:RELEASE/SAE_ID", or a bare FOLDER that an ingest plugin knows.

    Raises NotFound or BadInput as the plugin does, and PluginFailed when the plugin itself breaks.
    """
    from featuredb.plugins import Registry, guarded

    registry = Registry.installed()
    scheme, colon, source = spec.partition(":")
    if colon and not Path(spec).exists():
        plugin = registry.ingest(scheme)
        return _checked(plugin.name, guarded(plugin.name, lambda: plugin.load(source)))
    for plugin in registry.working("ingest"):
        if guarded(plugin.name, lambda plugin=plugin: plugin.recognises(spec)):  # type: ignore[misc]
            return _checked(plugin.name, guarded(plugin.name, lambda plugin=plugin: plugin.load(spec)))  # type: ignore[misc]
    names = ", ".join(registry.names("ingest")) or "none"
    if Path(spec).exists():
        raise BadInput(
            f"no ingest plugin recognises {spec}", hint=f"name the plugin, as in NAME:{spec}; there are {names}"
        )
    raise NotFound(
        f"no dictionary at {spec!r}",
        hint=nearest_sibling(Path(spec)) or f"a published one is written PLUGIN:ADDRESS; plugins: {names}",
    )


def nearest_sibling(path: Path) -> str | None:
    """A hint naming the files beside `path` whose names are like its own; None where there are none."""
    folder = path.expanduser().parent
    if not folder.is_dir():
        return None
    return nearest(path.name, sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")))


def _checked(plugin: str, found: list[Dictionary]) -> list[Dictionary]:
    if not found:
        raise PluginFailed(f"plugin {plugin!r} returned no dictionary")
    names = [dictionary.name for dictionary in found]
    if len(set(names)) < len(names):
        raise PluginFailed(f"plugin {plugin!r} returned two dictionaries of one name: {sorted(names)}")
    return found


def _check_finite(name: str, array: str, values: torch.Tensor) -> None:
    rows = values.reshape(values.shape[0], -1) if values.ndim > 1 else values.reshape(-1, 1)
    step = max(1, _CHECKED_AT_ONCE // rows.shape[1])
    for start in range(0, rows.shape[0], step):
        whole = torch.isfinite(rows[start : start + step]).all(dim=1)
        if not bool(whole.all()):
            row = start + int((~whole).nonzero()[0])
            raise BadInput(f"{name}: {array} row {row} is not finite", hint="was it saved in float16?")


def _below(prefix: str, arrays: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
