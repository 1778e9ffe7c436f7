# SPDX-License-Identifier: Apache-2.0
"""Whether a run asks of a prompt what it can do, whatever the method.

A prompt says what it can (`choices`, `has_tokens`, `needs_task_borders`, see
`base.Prompt`); what a run asks for is refused here.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from promptcl.models.parts import base

_WHOSE = {'random': 'pools of which images choose',
          'oracle': 'prompts that belong to tasks'}


def check(config: ConfigDict, prompt: base.Prompt) -> None:
  """Refuses settings that the method's prompt has no use for.

  Raises:
    ValueError: one line, names the key.
  """
  choice, readout = config.prompt_choice, config.vit_classifier
  if choice not in prompt.choices:
    raise ValueError(
        f'config.prompt_choice {choice!r} is for {_WHOSE[choice]}; method '
        f'{config.method} has {", ".join(prompt.choices)} only')
  if 'prompt' in readout and not prompt.has_tokens:
    raise ValueError(f'config.vit_classifier {readout!r} reads prompt tokens, '
                     f'and method {config.method} has none; use token')
  if readout == 'query' and 'embedding' not in prompt.query_needs:
    raise ValueError("config.vit_classifier 'query' is for methods that ask "
                     f'for embeddings, such as zero_shot, not {config.method}')
  if config.gaussian_schedule and prompt.needs_task_borders:
    raise ValueError(f'config.gaussian_schedule has no task borders, which '
                     f'method {config.method} needs')


def check_layers(config: ConfigDict, key: str, layers: Sequence[int], depth: int
                 ) -> None:
  """Refuses layers, of the config's `key`, that the backbone does not have.

  Raises:
    ValueError: one is beyond the last, or is there twice.
  """
  if set(layers) - set(range(depth)) or len(set(layers)) < len(layers):
    raise ValueError(f'config.{key} {tuple(layers)} must name each of the '
                     f'layers 0 to {depth - 1} of {config.model_name} once at '
                     'most')
