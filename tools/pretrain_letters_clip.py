# SPDX-License-Identifier: Apache-2.0
"""Pretrains the small two-tower model of the digits demo on letters' names.

  python tools/pretrain_letters_clip.py --output models/weights/letters_clip

Draws letters (`tools/letters.py`), puts their names into sentences
(`tools/letter_names.py`) and trains the variant `CLIP-letters` with the loss of
CLIP: an image must find its sentence among those of the other letters, and the
other way round.  Every group of a batch holds each letter once, so no sentence
that fits counts as wrong.  Writes a folder of `weights.npz` (float16) and
`tokenizer.json`, and ends with zero-shot accuracies.

Neither tower sees a digit: none is drawn, and no sentence names one.  Takes
about 250 seconds of CPU time.  The shipped files came from the defaults; they
name 91 % of the letters by any kind of name and 11.5 % of all digits, which is
chance.
"""

import argparse
import functools
import pathlib
import sys
import time

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import datasets
import tokenizers

# Started as a file, Python looks for modules beside it, not one level up.
# pylint: disable=g-import-not-at-top
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from promptcl.models.networks import backbones  # noqa: E402
from promptcl.models.networks import clip  # noqa: E402
from promptcl.models.networks import similarity  # noqa: E402
from promptcl.models.networks import text  # noqa: E402
from promptcl.models.networks import vit  # noqa: E402
from promptcl.models.weights import formats  # noqa: E402
from promptcl.models.weights import pretrained  # noqa: E402
from promptcl.tools import letter_names  # noqa: E402
from promptcl.tools import letters  # noqa: E402
from promptcl.tools import pretrain_letters  # noqa: E402

VARIANT = 'CLIP-letters'
WEIGHTS, TOKENIZER = 'weights.npz', 'tokenizer.json'
_LARGEST_SCALE = np.log(100)  # as CLIP's
_CHUNK = 256  # images per forward pass of an evaluation


def embed_images(model: clip.Clip, params: dict, images: jax.Array
                 ) -> jax.Array:
  """Unit embeddings [B, E] of images."""
  def run(module, x):
    return module.project(module(x, read=vit.read_class_token).tokens[:, 0])

  return similarity.l2_normalize(
      model.apply({'params': params}, images, method=run))


def loss_fn(params: dict, images: jax.Array, ids: jax.Array, *,
            model: clip.Clip) -> jax.Array:
  """Cross-entropy of images over sentences and of sentences over images.

  Args:
    params: of both towers.
    images: [G, L, h, w, 3].
    ids: [G, L, T]; those at the same place belong together.
    model: both towers.

  Returns:
    The mean over both directions, pairs and groups (Radford et al., 2021,
    figure 3).
  """
  flat = lambda x: x.reshape(-1, *x.shape[2:])
  image = embed_images(model, params, flat(images))
  sentence = similarity.l2_normalize(model.apply(
      {'params': params}, flat(ids), method='encode_text'))
  image, sentence = (x.reshape(*images.shape[:2], -1)
                     for x in (image, sentence))
  scale = jnp.exp(jnp.minimum(params[clip.SCALE], _LARGEST_SCALE))
  logits = scale * image @ sentence.mT
  pairs = jnp.arange(images.shape[1])
  return 0.5 * sum(
      optax.softmax_cross_entropy_with_integer_labels(x, jnp.broadcast_to(
          pairs, x.shape[:2])).mean() for x in (logits, logits.mT))


def start_params(model: clip.Clip, seed: int) -> dict:
  """Of both towers; that of images knows which patches are neighbours."""
  images = jnp.zeros((1, letters.CROP_SIZE, letters.CROP_SIZE, 3))
  params = model.init(jax.random.PRNGKey(seed), images)['params']
  params['Transformer']['posembed_input']['pos_embedding'] = jnp.asarray(
      pretrain_letters.grid_waves(
          letters.CROP_SIZE // model.patch_size, model.width))
  return params


def train(model: clip.Clip, source: letter_names.Source, *, num_steps: int
          ) -> dict:
  """Parameters of both towers after training on letters and their names.

  Raises:
    FloatingPointError: the loss is not finite.
  """
  return pretrain_letters.fit(
      start_params(model, source.seed),
      functools.partial(loss_fn, model=model), source.batch,
      num_steps=num_steps)


def save(folder: str, params: dict,
         tokenizer: tokenizers.Tokenizer) -> None:
  """Writes weights as float16 and the tokenizer beside them."""
  path = pathlib.Path(folder)
  path.mkdir(parents=True, exist_ok=True)
  flat = traverse_util.flatten_dict(params, sep='/')
  formats.write_npz(path / WEIGHTS, {
      name: array.astype(np.float16) for name, array in flat.items()},
                    {'family': 'letters'})
  tokenizer.save(str(path / TOKENIZER))


def load(folder: str) -> tuple[clip.Clip, dict]:
  """The model and what `save` wrote."""
  model = backbones.create(VARIANT, image_size=letters.CROP_SIZE)
  images = jnp.zeros((1, letters.CROP_SIZE, letters.CROP_SIZE, 3))
  like = jax.eval_shape(model.init, jax.random.PRNGKey(0), images)['params']
  return model, pretrained.load(str(pathlib.Path(folder) / WEIGHTS), like)


def zero_shot(model: clip.Clip, params: dict, images: np.ndarray,
              ids: np.ndarray) -> np.ndarray:
  """The class [N] of each image, by the sentences `ids` [C, M, T]."""
  flat = traverse_util.flatten_dict({'backbone': params}, sep='/')
  classes = text.class_embeddings(model, flat, ids)
  embed = jax.jit(functools.partial(embed_images, model))
  found = [embed(params, images[i:i + _CHUNK])
           for i in range(0, len(images), _CHUNK)]
  return np.argmax(np.concatenate(found) @ classes.T, axis=1)


def report(model: clip.Clip, params: dict, *, source: letter_names.Source,
           tokenizer: tokenizers.Tokenizer) -> dict[str, float]:
  """Zero-shot accuracies on letters not seen in training, and on digits."""
  images = np.concatenate([
      source.batch(step, letters.HELD_OUT)[0] for step in range(40)])
  images = images.reshape(-1, *images.shape[2:])
  num_letters = len(letter_names.SIGNS)
  labels = np.tile(np.arange(num_letters), len(images) // num_letters)
  kinds = ('signs', 'English names', 'spelling alphabet')
  scores = {}
  for number, kind in enumerate(kinds):
    found = zero_shot(model, params, images, source.ids[:, number])
    scores[f'letters, {kind}'] = float(np.mean(found == labels))
  digits = datasets.load_digits()
  ids = letter_names.sentence_ids(tokenizer, [list(map(str, range(10)))])
  found = zero_shot(
      model, params, letters.to_input(digits.images), ids[:, 0])
  return scores | {'digits': float(np.mean(found == digits.target))}


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--output', required=True, help='folder to write')
  parser.add_argument('--steps', type=int, default=1000)
  parser.add_argument('--groups', type=int, default=2,
                      help='of 26 letters in a batch')
  parser.add_argument('--seed', type=int, default=0)
  args = parser.parse_args(argv)

  start = time.process_time()
  tokenizer = letter_names.build_tokenizer()
  source = letter_names.Source(
      letters.load_glyphs(), letter_names.sentence_ids(tokenizer), args.seed,
      args.groups)
  model = backbones.create(VARIANT, image_size=letters.CROP_SIZE)
  params = train(model, source, num_steps=args.steps)
  print(f'trained in {time.process_time() - start:.0f} CPU-seconds')
  save(args.output, params, tokenizer)
  # What is scored is what was written, float16 rounding included.
  model, params = load(args.output)
  scores = report(model, params, source=source, tokenizer=tokenizer)
  for name, value in scores.items():
    print(f'zero-shot, {name}: {100 * value:.1f} %')


if __name__ == '__main__':
  main()
