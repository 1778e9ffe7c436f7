# SPDX-License-Identifier: Apache-2.0
"""IT-Prompt: prompts of tasks, a selector of tasks, alignment afterwards."""

from promptcl.models.prompts.it_prompt.learner import build
from promptcl.models.prompts.it_prompt.learner import OPTIONS
from promptcl.models.prompts.it_prompt.learner import SMALL

__all__ = ('OPTIONS', 'SMALL', 'build')
