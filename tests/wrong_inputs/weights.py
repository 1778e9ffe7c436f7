# SPDX-License-Identifier: Apache-2.0
"""Wrong pretrained weights."""

import pickle
import zipfile

import numpy as np
import safetensors.numpy

from tests.wrong_inputs.row import cut
from tests.wrong_inputs.row import replaced
from tests.wrong_inputs.row import Row
from tests.wrong_inputs.row import setting
from tests.wrong_inputs.row import write


def _content(name, content):
  return lambda folder: write(folder / name, content) and None


def _safetensors(folder):
  safetensors.numpy.save_file(
      {'cls_token': np.ones((1, 1, 16), np.float32)}, folder / 'vit.npz')


def _folder(folder):
  (folder / 'vit.npz').unlink()
  (folder / 'vit.npz').mkdir()


def _torch_zip(folder):
  with zipfile.ZipFile(folder / 'vit.npz', 'w') as archive:
    archive.writestr('archive/data.pkl', pickle.dumps({}))


_TABLE = 'Transformer__posembed_input__pos_embedding'
_OBJECTS = np.array([{}], object)

WEIGHTS = (
    setting('a file that is not there', 'init_checkpoint=vit16.npz',
            "init_checkpoint 'vit16.npz' does not exist"),
    Row('a folder', '',
        "init_checkpoint 'vit.npz' is a folder; the backbone of a run is "
        'made a file by `python -m tools.convert_weights vit.npz '
        'backbone.npz`', _folder),
    Row('a file that was cut off', '',
        "init_checkpoint 'vit.npz' is not a readable .npz of arrays: File is "
        'not a zip file', cut('vit.npz', 4000)),
    Row('an empty file', '',
        "init_checkpoint 'vit.npz' is neither a readable .npz nor a "
        '.safetensors file', cut('vit.npz', 0)),
    Row('a web page', '',
        "init_checkpoint 'vit.npz' is neither a readable .npz nor a "
        '.safetensors file', _content('vit.npz', b'<!DOCTYPE html>')),
    Row('a .pth, whatever its name', '',
        "init_checkpoint 'vit.npz' is a file of torch; convert it once: "
        '`python -m tools.convert_weights vit.npz weights.npz`', _torch_zip),
    Row('an old .pth', '',
        "init_checkpoint 'vit.npz' is a file of torch; convert it once: "
        '`python -m tools.convert_weights vit.npz weights.npz`',
        _content('vit.npz', pickle.dumps({'a': 1}))),
    Row('an .npz of pickles', '',
        "init_checkpoint 'vit.npz' is not a readable .npz of arrays: Object "
        'arrays cannot be loaded when allow_pickle=False',
        replaced('vit.npz', cls=_OBJECTS)),
    Row('a missing array', '',
        "init_checkpoint 'vit.npz' does not fit the model: missing cls",
        replaced('vit.npz', cls=None)),
    Row('arrays of other shapes', '',
        "init_checkpoint 'vit.npz' does not fit the model: the file has "
        'width 17 and 3 blocks, the model width 16 and 3 blocks; cls has '
        'shape [1, 1, 17], needs [1, 1, 16]; embedding/bias has shape [17], '
        'needs [16]',
        replaced('vit.npz', cls=np.ones((1, 1, 17)),
                 embedding__bias=np.ones(17))),
    Row('an array too many', '',
        "init_checkpoint 'vit.npz' does not fit the model: unexpected cls2",
        replaced('vit.npz', cls2=np.ones((1, 1, 16)))),
    Row('a position table that is not square', '',
        "init_checkpoint 'vit.npz' does not fit the model: position table "
        'with 4 rows does not fit 5 tokens: both grids must be square',
        replaced('vit.npz', **{_TABLE: np.ones((1, 4, 16))})),
    Row('weights that are not finite', '',
        "init_checkpoint 'vit.npz' is damaged: not finite are cls",
        replaced('vit.npz', cls=lambda x: x * np.nan)),
    Row('complex weights', '',
        "init_checkpoint 'vit.npz' is not a readable .npz of arrays: cls is "
        'complex128, must be real numbers',
        replaced('vit.npz', cls=lambda x: x.astype(complex))),
    Row('weights of the other GELU', '',
        "init_checkpoint 'vit.npz' holds timm weights, which need the exact "
        'GELU; config.model_name testing has the tanh form: there is no '
        'variant of that size with it', _safetensors),
    setting('another checksum', f'init_sha256={"0" * 64}',
            "init_checkpoint 'vit.npz' has sha256 SHA256, but "
            'config.init_sha256 is '
            '0000000000000000000000000000000000000000000000000000000000000000'),
    setting('a data set as weights', 'init_checkpoint=data.npz',
            "init_checkpoint 'data.npz' is not a readable .npz of arrays: "
            'class_names is <U16, must be real numbers'),
    setting('an address without encryption',
            'init_checkpoint=http://example.org/vit.npz',
            "init_checkpoint 'http://example.org/vit.npz': http:// is for "
            'this machine only; use https://'),
    setting('an address of another kind',
            'init_checkpoint=file:///etc/passwd',
            "init_checkpoint 'file:///etc/passwd': addresses begin with "
            'https://, http:// (this machine), gs:// or hf://'),
    setting('an address that is none', 'init_checkpoint=https://[x/vit.npz',
            "init_checkpoint 'https://[x/vit.npz' is no address: Invalid "
            'IPv6 URL'),
    setting('a pattern for a name', 'init_checkpoint=*.npz',
            "init_checkpoint '*.npz' does not exist"),
    setting('a command for a name', 'init_checkpoint=$(reboot)',
            "init_checkpoint '$(reboot)' does not exist"),
)
