# SPDX-License-Identifier: Apache-2.0
"""Keys of E- and G-prompts, under the names and at the place of the original.

They belong to L2P and DualPrompt; IT-Prompt reads those of E-prompts.
"""


from ml_collections import ConfigDict

from promptcl.models.networks import backbones
from promptcl.models.parts import options


def token_layers(config: ConfigDict) -> set[int]:
  """Layers that E-prompts enter as tokens."""
  tokens = config.use_e_prompt and not config.use_prefix_tune_for_e_prompt
  return set(config.e_prompt_layer_idx) if tokens else set()


def check(config: ConfigDict) -> None:
  """Refuses prompts that do not fit into the backbone or the pool.

  Raises:
    ValueError: one line, names the key.
  """
  for kind in 'e', 'g':
    if config[f'use_{kind}_prompt']:
      _check_layers(config, f'{kind}_prompt_layer_idx')
  param = config.prompt_pool_param
  if config.use_e_prompt and not config.prompt_pool:
    raise ValueError('config.use_e_prompt needs prompt_pool = True')
  if config.use_e_prompt and param.top_k > param.pool_size:
    raise ValueError(f'config.prompt_pool_param.top_k {param.top_k} is larger '
                     f'than pool_size {param.pool_size}')
  if 'prompt' in config.vit_classifier and not token_layers(config):
    raise ValueError(f'config.vit_classifier {config.vit_classifier!r} reads '
                     'prompt tokens, but the E-prompts are prefixes or off; '
                     'use token or gap')


def _check_layers(config: ConfigDict, key: str) -> None:
  depth, layers = backbones.VARIANTS[config.model_name].depth, config[key]
  if not layers:
    raise ValueError(f'config.{key} is empty')
  if len(set(layers)) < len(layers):
    raise ValueError(f'config.{key} {tuple(layers)} names a layer twice')
  for layer in layers:
    if not 0 <= layer < depth:
      raise ValueError(f'config.{key} names layer {layer}, but '
                       f'{config.model_name} has layers 0 to {depth - 1}')


OPTIONS = options.Section('', {
    # E-prompts: a pool of prompts chosen by key.
    'use_e_prompt': True,
    'e_prompt_layer_idx': (0,),
    'use_prefix_tune_for_e_prompt': False,  # else tokens
    'prompt_position': 'before_cls',  # or after_cls, with positions (v1)
    'same_key_value_for_pool': False,  # no effect, as in the original
    'reweight_prompt': False,
    'prompt_pool': True,
    'prompt_pool_param.pool_size': 10,
    'prompt_pool_param.length': 10,  # tokens per prompt
    'prompt_pool_param.top_k': 4,
    'prompt_pool_param.initializer': 'uniform',  # [0, 0.01), or normal,
    # normal_002, uniform_symmetric [-1, 1), uniform_unit [0, 1)
    'prompt_pool_param.prompt_key': True,  # learned keys
    'prompt_pool_param.prompt_key_init': 'uniform',  # or zero, and as above
    'prompt_pool_param.embedding_key': 'cls',  # or mean, max, mean_max
    'prompt_pool_param.use_prompt_mask': False,  # train the task's own
    'prompt_pool_param.prefix_pairing': 'correct',  # or port: keys and values
    # of a batch mixed up, as in the PyTorch ports
    'prompt_pool_param.shared_prompt_pool': False,  # hand prompts on
    'prompt_pool_param.shared_prompt_key': False,  # hand keys on
    'prompt_pool_param.batchwise_prompt': True,  # vote per device's batch
    'pull_constraint': True,
    'pull_constraint_coeff': 1.0,

    # G-prompts: shared by all tasks.
    'use_g_prompt': False,
    'g_prompt_length': 5,
    'g_prompt_layer_idx': (0, 1),
    'use_prefix_tune_for_g_prompt': True,
    'same_key_value_for_shared': False,
}, choices={
    'prompt_position': ('before_cls', 'after_cls'),
    'prompt_pool_param.embedding_key': ('cls', 'mean', 'max', 'mean_max'),
    'prompt_pool_param.prefix_pairing': ('correct', 'port'),
    'prompt_pool_param.initializer': (
        'uniform', 'normal', 'normal_002', 'uniform_symmetric', 'uniform_unit'),
    'prompt_pool_param.prompt_key_init': (
        'uniform', 'zero', 'normal', 'uniform_symmetric', 'uniform_unit'),
}, positive=(
    'g_prompt_length', 'prompt_pool_param.pool_size',
    'prompt_pool_param.length', 'prompt_pool_param.top_k'),
    items={'e_prompt_layer_idx': int, 'g_prompt_layer_idx': int}, check=check)
