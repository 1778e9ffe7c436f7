# SPDX-License-Identifier: Apache-2.0
"""Records what transformers' CLIPModel computes, tiny and with random weights.

  pip install torch==2.13.0 transformers==5.23.0
  python -m tests.models.record_clip tests/models/clip_reference.npz

The file holds the weights under Hugging Face's names (`params/...`, float16,
but computed with in float32), inputs, outputs and, as JSON, the model's
config.json.
"""

import json
import sys

import numpy as np

CONFIG = {
    'model_type': 'clip', 'projection_dim': 20,
    'vision_config': {
        'image_size': 16, 'patch_size': 8, 'hidden_size': 24,
        'num_hidden_layers': 2, 'num_attention_heads': 3,
        'intermediate_size': 32},
    'text_config': {
        'vocab_size': 40, 'max_position_embeddings': 12, 'hidden_size': 16,
        'num_hidden_layers': 2, 'num_attention_heads': 2,
        'intermediate_size': 28, 'eos_token_id': 39, 'bos_token_id': 38}}


def record() -> dict[str, np.ndarray]:
  """All arrays of the file; needs torch and transformers."""
  import torch
  import transformers

  model = transformers.CLIPModel(transformers.CLIPConfig(**CONFIG)).eval()
  rng = np.random.default_rng(0)
  state = {}
  for name, value in sorted(model.state_dict().items()):
    if not name.endswith('position_ids'):
      noise = rng.normal(0, 0.2, value.shape)
      norm = 'norm' in name and name.endswith('weight')
      state[name] = np.asarray(noise + norm, np.float16)
  model.load_state_dict({
      name: torch.from_numpy(value.astype(np.float32))
      for name, value in state.items()}, strict=False)
  images = rng.normal(size=(3, 3, 16, 16)).astype(np.float32)
  # Sentences of 12 and 5 tokens, the end token is 39.
  ids = np.array([[38, *rng.integers(0, 38, 10), 39],
                  [38, 7, 3, 21, *[39] * 8]], np.int64)
  with torch.no_grad():
    pictures, tokens = torch.from_numpy(images), torch.from_numpy(ids)
    out = model(input_ids=tokens, pixel_values=pictures)
    # Not yet at length 1.
    images_out = model.visual_projection(
        model.vision_model(pictures).pooler_output)
    texts_out = model.text_projection(model.text_model(tokens).pooler_output)
  return {
      'config': np.array(json.dumps(CONFIG)), 'images': images,
      'ids': ids.astype(np.int32),
      'image_embeddings': images_out.numpy(),
      'text_embeddings': texts_out.numpy(),
      'logits_per_image': out.logits_per_image.numpy(),
      **{f'params/{name}': value for name, value in state.items()}}


if __name__ == '__main__':
  np.savez_compressed(sys.argv[1], **record())
