# SPDX-License-Identifier: Apache-2.0
"""Makes an `.npz` for `config.init_checkpoint` of other weights.

  python -m tools.convert_weights dino_vitbase16_pretrain.pth dino_b16.npz
  python -m tools.convert_weights checkpoint_teacher.pth ibot.npz --family ibot
  python -m tools.convert_weights ViT-B-16.pt clip_b16.npz
  python -m tools.convert_weights ./cifar100_l2p backbone.npz

The first argument is a `.pth` of timm, DeiT, DINO, iBOT or MoCo-v3, a `.pt` of
CLIP, a `.safetensors` file, or the workdir of a run whose backbone trained.
The output holds the backbone under the names of `networks/vit.py` and says
which family it is, so that GELU and input range need no guessing.

Only `.pth` and `.pt` files need torch, on this machine and once; they are read
with `weights_only=True`, so nothing in them is executed.  OpenAI's CLIP files
are TorchScript, which that cannot read: `torch.jit.load` does, so compare the
checksum of such a file with the one in its published address first.
"""

import argparse
from collections.abc import Mapping
import hashlib
import pathlib
import pickle
import sys
from typing import Any
import zipfile

import numpy as np

from promptcl.models.weights import clip_names
from promptcl.models.weights import families
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.models.weights import timm_names
from promptcl.tools import run_weights
from promptcl.tools import torch_layouts


def read_torch(path: str) -> object:
  """What `torch.save` or TorchScript wrote, tensors as float32 arrays.

  Raises:
    ValueError: torch is not installed, or the file is not plain data.
  """
  try:
    import torch
  except ImportError as e:
    raise ValueError(
        f'{path!r} is a file of torch, which is not installed here; install it '
        'where this runs (`pip install torch`, a CPU is enough) or convert the '
        'file on another machine') from e
  try:
    if _is_script(path):
      module = torch.jit.load(path, map_location='cpu')
      return _as_arrays(dict(module.state_dict()), torch.Tensor)
    # iBOT stores its command line beside the weights: plain data as well.
    with torch.serialization.safe_globals([argparse.Namespace]):
      content = torch.load(path, map_location='cpu', weights_only=True)
  except pickle.UnpicklingError as e:  # torch would advise to run it
    raise ValueError(
        'holds more than arrays and plain values, which could be code; save '
        'its state dict alone, or ask for safetensors') from e
  except Exception as e:  # torch raises what its unpickler met
    raise ValueError(f'{path!r} cannot be read as plain weights: '
                     f'{str(e).splitlines()[0]}') from e
  return _as_arrays(content, torch.Tensor)


def _is_script(path: str) -> bool:
  """Whether a file is an archive of TorchScript."""
  if not zipfile.is_zipfile(path):
    return False
  with zipfile.ZipFile(path) as archive:
    return any(name.endswith('/constants.pkl') for name in archive.namelist())


def _as_arrays(content: Any, tensor: type) -> object:
  """Turns tensors into arrays, in dictionaries within dictionaries."""
  if isinstance(content, dict):
    return {key: _as_arrays(value, tensor) for key, value in content.items()}
  if isinstance(content, tensor):
    return content.detach().float().numpy()
  return content


def convert(content: object, *, family: str, network: str, num_heads: int,
            source: str) -> tuple[dict[str, np.ndarray], str, tuple[str, ...]]:
  """Backbone of a checkpoint under our names.

  Args:
    content: see `torch_layouts.unpack`.
    family: key of `families.FAMILIES`; '' to be told by layout or file name.
    network: 'teacher' or 'student'.
    num_heads: 0 to be told by the width.
    source: path, for the file name.

  Returns:
    Arrays, family, names that were left out.

  Raises:
    ValueError: it is neither a plain ViT nor CLIP, or its family is not told.
  """
  state, _ = torch_layouts.arrays_in(content, network)
  if clip_names.is_clip(state):
    return clip_names.convert_published(state), 'clip', ()
  found = torch_layouts.unpack(content, network=network)
  family = family or found.family or families.by_name(source)
  if not family:
    raise ValueError('does not tell its family; add --family, one of '
                     f'{", ".join(sorted(families.FAMILIES))}')
  heads = num_heads or torch_layouts.num_heads(found, family)
  arrays = timm_names.convert(found.arrays, num_heads=heads)
  return arrays, family, found.left_out


def _read(args: argparse.Namespace
          ) -> tuple[dict[str, np.ndarray], Mapping[str, object], str]:
  """Arrays, `meta` and a remark, whatever the input is."""
  path, kind = args.input, formats.sniff(args.input)
  if kind == 'folder':
    return run_weights.read(path)
  if kind not in ('torch', 'safetensors'):
    raise ValueError('is neither a file of torch, nor .safetensors, nor a run; '
                     'an .npz needs no conversion')
  content = read_torch(path) if kind == 'torch' else formats.read(path)
  arrays, name, left_out = convert(
      content, family=args.family, network=args.network,
      num_heads=args.num_heads, source=path)
  family = families.FAMILIES[name]
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  meta = {'family': name, 'exact_gelu': family.exact_gelu,
          'input_range': family.input_range,
          'source': pathlib.Path(path).name, 'source_sha256': digest}
  kinds = sorted({n.partition('.')[0] for n in left_out})
  return arrays, meta, f'left out: {", ".join(kinds) or "nothing"}'


def main(argv: list[str] | None = None) -> int:
  parser = argparse.ArgumentParser(
      prog='python -m tools.convert_weights',
      description=__doc__.partition('\n')[0])
  parser.add_argument('input',
                      help='.pth, .pt, .safetensors or workdir of a run')
  parser.add_argument('output', help='path of the .npz')
  parser.add_argument('--family', default='', help='if the file does not tell',
                      choices=sorted(families.FAMILIES))
  parser.add_argument('--network', default='teacher',
                      choices=torch_layouts.NETWORKS, help='of two in a file')
  parser.add_argument('--num_heads', type=int, default=0,
                      help='for a width of your own')
  args = parser.parse_args(argv)
  try:
    arrays, meta, remark = _read(args)
    formats.write_npz(args.output, arrays, meta)
  except (ValueError, OSError) as e:
    print(f'error: {args.input}: {" ".join(str(e).split())}', file=sys.stderr)
    return 1
  table = arrays[pretrained.POSITIONS].shape
  print(f'{args.output}: {meta["family"]}, {len(arrays)} arrays, '
        f'{sum(a.size for a in arrays.values()):,} parameters, width '
        f'{table[2]}, {table[1]} positions; {remark}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
