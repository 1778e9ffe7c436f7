# SPDX-License-Identifier: Apache-2.0
"""Wrong flags and recipes."""

from tests.wrong_inputs.row import recipe
from tests.wrong_inputs.row import Row

_KEYS = '''
from promptcl.configs import base

def get_config():
  config = base.get_config()
  {}
  return config
'''

FLAGS = (
    Row('no recipe', '--workdir=run',
        '--my_config is missing', alone=True),
    Row('no workdir', '--my_config=recipe.py',
        '--workdir is missing', alone=True),
    Row('an empty workdir', '--workdir=',
        '--workdir is empty; name the folder for the results'),
    Row('an unknown flag', '--workdri=run',
        "Unknown command line flag 'workdri'. Did you mean: workdir ?"),
    Row('a word that is no flag', 'digits',
        "unexpected argument 'digits'; see --help"),
    Row('a flag that is not true or false', '--dry_run=maybe',
        "flag --dry_run=maybe: must be true or false, not 'maybe'"),
    Row('a flag that is no number', '--num_hosts=two',
        "flag --num_hosts=two: must be a whole number, not 'two'"),
    Row('a key without a recipe', '--workdir=run --my_config.seed=1',
        '--my_config.seed comes without --my_config=RECIPE.py',
        alone=True),
    Row('a recipe that is not there',
        '--my_config=resipe.py --workdir=run',
        "--my_config='resipe.py' cannot be read: No such file or directory",
        alone=True),
    Row('a folder as a recipe', '--my_config=. --workdir=run',
        "--my_config='.' cannot be read: Is a directory",
        alone=True),
    Row('a data file as a recipe', '--my_config=data.npz --workdir=run',
        '--my_config is no Python file', alone=True),
    Row('a preset that does not exist',
        '--my_config=cifar.py:torchport --workdir=run',
        "unknown stream or preset 'torchport', see --list; did you mean "
        'torch_port?', alone=True),
    Row('a preset that does not exist, of a recipe without streams',
        '--my_config=digits.py:torchport --workdir=run',
        "unknown preset 'torchport', have jax_v1, jax_v2, paper, torch_port, "
        'libcontinual, pilot, coda, hide, strict; did you mean torch_port?',
        alone=True),
    Row('a stream that does not exist',
        '--my_config configs/l2p.py:imr_5x4,torch_port --workdir=run',
        "unknown stream or preset 'imr_5x4', see --list; did you mean "
        'imr_5x40?', alone=True),
    Row('two streams', '--my_config=configs/l2p.py:imr,cub200 --workdir=run',
        'imr and cub200 are each a stream; name one', alone=True),
    Row('a method that does not exist',
        '--my_config=configs/l3p.py:imr --workdir=run',
        'there is no recipe configs/l3p.py, see --list; did you mean '
        'configs/l2p.py?', alone=True),
    Row('a recipe of ours that does not exist',
        '--my_config=configs/digit_l2p.py --workdir=run',
        'there is no recipe configs/digit_l2p.py, see --list; did you mean '
        'configs/digits_l2p.py?', alone=True),
    Row('a recipe without folder and suffix',
        '--my_config=l2p:imr --workdir=run',
        'the recipe l2p is typed configs/l2p.py:imr', alone=True),
    Row('a recipe that was a file of its own',
        '--my_config configs/imr_5x40_l2p.py:torch_port --workdir=run',
        'configs/imr_5x40_l2p.py is now configs/l2p.py:imr_5x40,torch_port',
        alone=True),
    Row('a preset for a recipe without presets',
        '--my_config=recipe.py:paper --workdir=run',
        'this recipe takes no preset: leave out the colon in --my_config and '
        'what follows it', alone=True),
    Row('a key that is no number', '--my_config.learning_rate=fast',
        "flag --my_config.learning_rate=fast: must be a number, not 'fast'"),
    Row('a key that is no whole number', '--my_config.num_epochs=1.5',
        "flag --my_config.num_epochs=1.5: must be a whole number, not '1.5'"),
    Row('a key that is not true or false', '--my_config.use_e_prompt=maybe',
        'flag --my_config.use_e_prompt=maybe: must be true or false, not '
        "'maybe'"),
    Row('a list that is none', '--my_config.e_prompt_layer_idx=(0,',
        'flag --my_config.e_prompt_layer_idx=(0,: must be a list such as '
        '(0,1)'),
    Row('a number for a group of keys', '--my_config.continual=3',
        'flag --my_config.continual=3: is a group of keys; set them one by '
        'one'),
    Row('a key below a number', '--my_config.seed.x=3',
        'config.seed.x is unknown'),
)

RECIPES = (
    recipe('a syntax error', 'def get_config(:\n',
           'invalid syntax (recipe.py, line 1)'),
    recipe('a recipe without get_config', 'x = 1\n',
           'the recipe has no function get_config'),
    recipe('get_config without return', 'def get_config():\n  pass\n',
           'get_config of the recipe returns nothing'),
    recipe('get_config returns a number', 'def get_config():\n  return 3\n',
           'get_config of the recipe must return a ConfigDict, not 3'),
    recipe('a module that is not there', 'import nowhere\n',
           'the recipe fails in recipe.py, line 1: ModuleNotFoundError: No '
           "module named 'nowhere'"),
    recipe('an error in the recipe', 'def get_config():\n  return 1 / 0\n',
           'the recipe fails in recipe.py, line 2: ZeroDivisionError: '
           'division by zero'),
    recipe('a misspelt key', _KEYS.format('config.lerning_rate = 0.1'),
           'config.lerning_rate is unknown; did you mean learning_rate?'),
    recipe('a key that belongs into a group', _KEYS.format('config.top_k = 3'),
           'config.top_k is unknown; did you mean prompt_pool_param.top_k?'),
    recipe('a misspelt key in a group',
           _KEYS.format('config.continual.num_task = 3'),
           'config.continual.num_task is unknown; did you mean num_tasks?'),
    recipe('a new key in a locked config',
           _KEYS.format('config.lock(); config.topk = 3'),
           'the recipe fails in recipe.py, line 6: AttributeError: Key '
           '"topk" does not exist and cannot be added since the config is '
           'locked'),
    recipe('a text for a number', _KEYS.format("config.num_epochs = 'five'"),
           'the recipe fails in recipe.py, line 6: TypeError: Could not '
           "override field 'num_epochs' (reference). five is of original "
           "type <class 'str'> and cannot be casted to type <class 'int'>"),
    recipe('a number for a text', _KEYS.format(
        'config = config.to_dict(); config["dataset"] = 3; '
        'import ml_collections; config = ml_collections.ConfigDict(config)'),
           'config.dataset must be str, not 3'),
    recipe('a NUL byte in a path',
           _KEYS.format(r"config.dataset = 'npz:a\0b'"),
           "config.dataset 'npz:a\\x00b' holds a control character"),
    recipe('a line break in a path',
           _KEYS.format(r"config.init_checkpoint = 'vit.npz\n'"),
           "config.init_checkpoint 'vit.npz\\n' holds a control character"),
    recipe('no pretrained weights', _KEYS.format('pass'),
           'config.init_checkpoint is not set: prompts need a pretrained '
           'ViT; give the path of an .npz, or random for random weights'),
)
