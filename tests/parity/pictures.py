# SPDX-License-Identifier: Apache-2.0
"""Preprocessing of pictures; pictures travel as int32 with 8-bit values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.stats

from promptcl.input_pipeline.read import datasets
from promptcl.input_pipeline.views import preprocess
from tests.parity import tolerances as tol
from tests.parity.fixture import Fixture
from tests.parity.report import Report

_NO_JPEG = 'we do not re-encode training pictures as JPEG (design decision)'
# Kolmogorov-Smirnov distance that samples of one distribution exceed once in
# a thousand: this times sqrt(1/n + 1/m).
_KS_LIMIT = 1.949
_OUR_BOXES = 20_000
# An 8-bit value may be off by one where it was this close to a whole number.
_WHOLE = 1e-3


def run(fixture: Fixture, report: Report) -> None:
  """All pictures, then the distribution of the boxes."""
  for name in fixture.names:
    if name.endswith('/image'):
      _picture(fixture, report, name.removesuffix('/image'))
  for name, want in fixture.under('box_samples').items():
    meta = fixture.meta.get('box_samples', {}).get(name, {})
    _boxes(report, f'box_samples/{name}', want, meta)


def _picture(fixture: Fixture, report: Report, name: str) -> None:
  case, meta = fixture.under(name), fixture.cases().get(name, {})
  image = case['image'].astype(np.uint8)
  crop = case['eval_times_255'].shape[0]
  size = meta.get('resize_size') or case['resized_uint8'].shape[0]
  exact = preprocess.crop_flip_resize(
      image, (0, 0, *image.shape[:2]), False, size) * 255
  margin = (size - crop) // 2
  window = slice(margin, margin + crop)
  _compare_levels(report, f'{name}/eval_times_255',
                  preprocess.eval_image(image, size, crop),
                  case['eval_times_255'], exact[window, window])
  _label(report, f'{name}/eval_label', case, meta)
  if 'resized_uint8' in case:
    resized = preprocess.resize_uint8(image, size)
    _compare_levels(report, f'{name}/resized_uint8', resized,
                    case['resized_uint8'], exact)
    _training(report, name, case, resized, crop)


def _compare_levels(report: Report, name: str, got: np.ndarray,
                    want: np.ndarray, exact: np.ndarray) -> None:
  """8-bit values: equal, or one level off where the cut is a coin toss."""
  close = np.abs(exact - np.round(exact)) < _WHOLE
  if got.shape == want.shape == close.shape and not np.array_equal(got, want):
    rounding = close & (np.abs(want - got.astype(np.int32)) == 1)
    report.compare(name, np.where(rounding, want, got), want,
                   remark=f'{rounding.sum()} values on a whole number apart')
  else:
    report.compare(name, got, want)


def _label(report: Report, name: str, case: Mapping[str, np.ndarray],
           meta: Mapping[str, Any]) -> None:
  if 'eval_label' not in case:
    return
  if meta.get('dataset') in datasets.SPECS:
    # Where only some of the stored labels occur, they are numbered anew.
    labels = datasets.SPECS[meta['dataset']].labels
    label = labels.index(meta['label']) if labels else meta['label']
    report.compare(name, label, case['eval_label'])
  else:
    report.note(name, f'{meta.get("dataset")} is not built yet')


def _training(report: Report, name: str, case: Mapping[str, np.ndarray],
              resized: np.ndarray, crop: int) -> None:
  """Crops, with the boxes and flips that were drawn."""
  for array in case:
    if array in ('jpeg_decoded_uint8', 'crop_after_decode_max_diff'):
      report.note(f'{name}/{array}', _NO_JPEG)
  if 'train_image' not in case:
    for array in ('box', 'flip', 'jpeg_effect'):
      if array in case:
        report.note(f'{name}/{array}', 'its pictures are not recorded')
    return
  from_jpeg, plain = [], []
  for j, box in enumerate(case['box']):
    flip = bool(case['flip'][j])
    decoded = case[f'crop_uint8_{j}'].astype(np.uint8)
    whole = (0, 0, *decoded.shape[:2])
    from_jpeg.append(
        preprocess.crop_flip_resize(decoded, whole, flip, crop))
    plain.append(preprocess.crop_flip_resize(
        resized, tuple(box.tolist()), flip, crop))
  report.compare(f'{name}/train_image', from_jpeg, case['train_image'],
                 tol.METRIC, remark='from the decoded crops')
  report.compare(f'{name}/train_image_without_jpeg', plain,
                 case['train_image_without_jpeg'], tol.METRIC)
  off = np.abs(np.stack(plain) - case['train_image'])
  effect = [off.mean(), np.percentile(off, 99), off.max()]
  report.compare(f'{name}/jpeg_effect', effect, case['jpeg_effect'],
                 tol.JPEG_EFFECT, remark='ours against JPEG crops')


def _boxes(report: Report, name: str, want: np.ndarray,
           meta: Mapping[str, Any]) -> None:
  """Two-sample tests: our boxes against the recorded ones."""
  height = meta.get('height', int((want[:, 0] + want[:, 2]).max()))
  width = meta.get('width', int((want[:, 1] + want[:, 3]).max()))
  rng = np.random.default_rng(0)
  got = np.array([preprocess.sample_box(rng, height, width)
                  for _ in range(_OUR_BOXES)])
  limit = _KS_LIMIT * (1 / len(got) + 1 / len(want)) ** 0.5
  ours, theirs = (_features(b, height, width) for b in (got, want))
  for feature, values in ours.items():
    distance = scipy.stats.ks_2samp(values, theirs[feature]).statistic
    report.compare(f'{name}: {feature}', distance, 0.0,
                   tol.Tolerance(absolute=limit),
                   remark='Kolmogorov-Smirnov distance')


def _features(boxes: np.ndarray, height: int, width: int
              ) -> dict[str, np.ndarray]:
  top, left, h, w = boxes.astype(np.float64).T
  return {'area': h * w / (height * width), 'aspect': w / h,
          'height': h, 'width': w,
          'top': top / np.maximum(height - h, 1),
          'left': left / np.maximum(width - w, 1)}
