# SPDX-License-Identifier: Apache-2.0
"""How a file tells its family, and what follows: GELU and input range."""

import numpy as np
import pytest
import safetensors.numpy

from promptcl.models.networks import vit
from promptcl.models.weights import families
from promptcl.models.weights import formats
from promptcl.models.weights import pretrained
from promptcl.train_lib.core import state as state_lib
from promptcl.train_lib.startup import startup
from tests.helpers import fakes
from tests.helpers import weights


def _npz(path, meta=None, **extra):
  formats.write_npz(path, {**fakes.backbone_arrays(), **extra}, meta or {})
  return str(path)


def _timm(path, **extra):
  path.parent.mkdir(exist_ok=True)
  safetensors.numpy.save_file(
      {**weights.to_timm(fakes.backbone_arrays()), **extra}, path)
  return str(path)


def _outputs(name, count):
  return {name: np.zeros(count, np.float32)}


def _family(path, model_name='ViT-B_16', **options):
  return families.find(path, model_name=model_name, **options).name


def test_names_of_the_original_leave_it_to_the_model(tmp_path):
  path = _npz(tmp_path / 'vit.npz', **_outputs('head/bias', 1000))
  assert _family(path) == 'original'
  assert _family(path, 'DeiT-B_16') == 'deit'
  assert _family(path, 'ViT-digits') == 'letters'


@pytest.mark.parametrize('extra', [
    _outputs('head/bias', 21843), _outputs('pre_logits/bias', 16)])
def test_contents_of_the_in21k_files_are_the_originals(extra, tmp_path):
  assert _family(_npz(tmp_path / 'x.npz', **extra), 'DeiT-B_16') == 'original'


def test_files_of_the_originals_bucket_are_the_originals(tmp_path):
  path = _npz(tmp_path / 'x.npz', **_outputs('head/bias', 1000))
  address = 'gs://vit_models/augreg/B_16-i21k-300ep--imagenet2012.npz'
  assert _family(path, 'DeiT-B_16', address=address) == 'original'


@pytest.mark.parametrize('folder, expected', [
    ('vit_base_patch16_224.augreg_in21k_ft_in1k', 'timm_augreg'),
    ('vit_base_patch16_224.orig_in21k', 'timm_augreg'),
    ('deit_base_patch16_224.fb_in1k', 'deit'),
    ('vit_base_patch16_224.dino', 'dino'), ('mine', 'timm')])
def test_tags_of_timm(folder, expected, tmp_path):
  path = _timm(tmp_path / folder / 'model.safetensors',
               **_outputs('head.bias', 1000))
  assert _family(path, 'DeiT-B_16') == expected
  # The address counts, not the name in the cache.
  plain = _timm(tmp_path / 'model.safetensors')
  assert _family(plain, 'DeiT-B_16', address=(
      f'hf://timm/{folder}/model.safetensors')) == expected


def test_the_in21k_classifier_of_timm(tmp_path):
  path = _timm(tmp_path / 'x.safetensors', **_outputs('head.bias', 21843))
  assert _family(path) == 'timm_augreg'


def test_what_a_file_records_comes_first(tmp_path):
  path = _npz(tmp_path / 'deit_small.npz', {'family': 'moco'},
              **_outputs('head/bias', 21843))
  found = families.find(path, model_name='ViT-B_16')
  assert found == families.Family('moco', True, 'imagenet')
  path = _npz(tmp_path / 'run.npz', {
      'family': 'original, trained', 'exact_gelu': False,
      'input_range': 'zero_one'})
  found = families.find(path, model_name='DeiT-B_16')
  assert found == families.Family('original, trained', False, 'zero_one')


def test_every_variant_has_a_family_of_its_gelu():
  for name, variant in vit.VARIANTS.items():
    family = families.of_model(name)
    assert family.exact_gelu == variant.exact_gelu, name
    assert family.input_range in ('minus_one_one', 'imagenet', 'zero_one')


@pytest.mark.parametrize('family, model_name, advice', [
    ('dino', 'ViT-B_16', 'DeiT-B_16'), ('timm_augreg', 'ViT-S_16', 'DeiT-S_16'),
    ('ibot', 'ViT-H_14', 'no variant')])
def test_exact_gelu_in_a_tanh_variant_is_refused(family, model_name, advice):
  with pytest.raises(ValueError, match=f'{family}.*{model_name}.*{advice}'):
    families.check_gelu(families.FAMILIES[family], model_name=model_name,
                        source='x.npz')


@pytest.mark.parametrize('family, model_name', [
    ('dino', 'DeiT-B_16'), ('original', 'ViT-B_16'),
    ('original', 'DeiT-B_16')])  # the last one: as the torch ports do it
def test_other_combinations_pass(family, model_name):
  families.check_gelu(families.FAMILIES[family], model_name=model_name,
                      source='x.npz')


def test_loading_checks_the_gelu(tmp_path):
  path = _npz(tmp_path / 'dino.npz', {'family': 'dino'})
  like = state_lib.variables(fakes.backbone_arrays())['params']
  with pytest.raises(ValueError, match='dino.npz.*exact GELU.*testing'):
    pretrained.from_config(fakes.config(init_checkpoint=path), like)


class TestInputRange:
  """`input_range = 'weights'` is settled when the config is expanded."""

  def test_of_a_file(self, tmp_path):
    path = _npz(tmp_path / 'dino.npz', {'family': 'dino'})
    config = fakes.config(init_checkpoint=path, input_range='weights')
    assert config.input_range == 'imagenet'
    startup.check(config)
    assert startup.expand(config).input_range == 'imagenet'

  @pytest.mark.parametrize('model_name, expected', [
      ('ViT-B_16', 'minus_one_one'), ('DeiT-S_16', 'imagenet'),
      ('ViT-digits', 'zero_one'), ('CLIP-letters', 'zero_one')])
  def test_of_random_weights_is_that_of_the_model(self, model_name, expected):
    config = fakes.config(model_name=model_name, input_range='weights')
    assert config.input_range == expected

  def test_of_a_published_address_needs_no_download(self, tmp_path):
    """Tests have no network, so a request would fail."""
    config = fakes.config(
        model_name='DeiT-B_16', input_range='weights',
        cache_dir=str(tmp_path / 'cache'),
        init_checkpoint='gs://vit_models/imagenet21k/ViT-B_16.npz')
    assert config.input_range == 'minus_one_one'
    assert not (tmp_path / 'cache').exists()

  def test_that_no_one_knows_is_one_line(self, tmp_path):
    path = _timm(tmp_path / 'model.safetensors')
    with pytest.raises(ValueError, match='model.safetensors.*set') as raised:
      fakes.config(init_checkpoint=path, input_range='weights')
    assert '\n' not in str(raised.value)

  def test_without_weights_is_left_to_the_check(self):
    config = fakes.config(init_checkpoint=None, input_range='weights')
    assert config.input_range == 'weights'
    with pytest.raises(ValueError, match='init_checkpoint is not set'):
      startup.check(config)

  def test_of_an_unknown_model_is_left_to_the_check(self):
    with pytest.raises(ValueError, match='model_name'):
      startup.check(fakes.config(model_name='none', input_range='weights'))
