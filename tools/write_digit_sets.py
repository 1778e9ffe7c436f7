# SPDX-License-Identifier: Apache-2.0
"""Writes small data sets made of scikit-learn's digits; nothing is fetched.

  python tools/write_digit_sets.py --output .

  digits_domains.npz    plain, inverted and blurred digits as three domains
  digits_inverted.npz   dark digits on white ground
  digits_turned.npz     digits turned by a quarter to the left

They stand in for CORe50 or PACS and for members of 5-datasets: the pipeline is
the same, and a run takes a minute.  Training and test digits are those of
`config.dataset = 'digits'` in every look, so none is in both.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

import cv2
import numpy as np

# Started as a file, Python looks for modules beside it, not one level up.
# pylint: disable=g-import-not-at-top
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from promptcl.configs import base  # noqa: E402
from promptcl.input_pipeline.read import datasets  # noqa: E402

LOOKS = {
    'plain': lambda image: image,
    'inverted': lambda image: 255 - image,
    'blurred': lambda image: cv2.GaussianBlur(image, (3, 3), 0),
    'turned': np.rot90,
}
DOMAINS = ('plain', 'inverted', 'blurred')
Digits = dict[str, tuple[np.ndarray, np.ndarray]]


def load_digits() -> Digits:
  """`{split: (uint8 [N, 8, 8], int32 [N])}`, divided as the data set is."""
  config = base.get_config()
  config.dataset = 'digits'
  dataset = datasets.load(config)
  return {name: (np.stack([split.image(i)[..., 0] for i in range(len(split))]),
                 np.asarray(split.labels, np.int32))
          for name, split in (('train', dataset.train), ('test', dataset.test))}


def look(digits: Digits, name: str) -> dict[str, np.ndarray]:
  """All digits in one look, as the arrays of an `npz:` data set."""
  arrays = {'class_names': np.array([str(i) for i in range(10)])}
  for split, (images, labels) in digits.items():
    changed = np.stack([LOOKS[name](image) for image in images])
    arrays |= {f'{split}_images': changed[..., None], f'{split}_labels': labels}
  return arrays


def domains(digits: Digits, names: Sequence[str] = DOMAINS
            ) -> dict[str, np.ndarray]:
  """All digits in several looks, each a domain."""
  looks = [look(digits, name) for name in names]
  arrays = {'class_names': looks[0]['class_names'],
            'domain_names': np.array(names)}
  for split in digits:
    for kind in ('images', 'labels'):
      key = f'{split}_{kind}'
      arrays[key] = np.concatenate([each[key] for each in looks])
    sizes = [len(each[f'{split}_labels']) for each in looks]
    arrays[f'{split}_domains'] = np.repeat(
        np.arange(len(names), dtype=np.int32), sizes)
  return arrays


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--output', type=pathlib.Path, required=True,
                      help='folder for the three files')
  folder = parser.parse_args().output
  folder.mkdir(parents=True, exist_ok=True)
  digits = load_digits()
  files = {'digits_domains.npz': domains(digits),
           'digits_inverted.npz': look(digits, 'inverted'),
           'digits_turned.npz': look(digits, 'turned')}
  for name, arrays in files.items():
    np.savez_compressed(folder / name, **arrays)
    print(folder / name)


if __name__ == '__main__':
  main()
