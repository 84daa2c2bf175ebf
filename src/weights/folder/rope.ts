/** Rotary positions as config.json describes them: `rope_theta` and `rope_scaling`, or `rope_parameters`. */
import { errors } from '../../errors.js';
import { makeRope, type Rope, type RopeScaling } from '../rope.js';
import type { Fields } from './json.js';

export interface RopeNeeds {
  headDim: number;
  contextLength: number;
  /** Longest sequence that will be. */
  sessionLen: number;
  defaultTheta: number;
}

/** `kind`: of layers that have parameters of their own ('full_attention', 'sliding_attention'). */
export function readFolderRope(config: Fields, needs: RopeNeeds, kind = 'full_attention'): Rope {
  const all = config.child('rope_parameters');
  const parameters = all?.child(kind) ?? all;
  const scaling = parameters ?? config.child('rope_scaling');
  const theta = parameters?.has('rope_theta')
    ? parameters.positive('rope_theta')
    : config.positive('rope_theta', needs.defaultTheta);
  const share = parameters?.has('partial_rotary_factor')
    ? parameters.positive('partial_rotary_factor')
    : config.positive('partial_rotary_factor', 1);
  const dims = Math.trunc(needs.headDim * share);
  if (dims < 2 || dims > needs.headDim || dims % 2 !== 0)
    throw errors.badModelFile(config.path, `${dims} of ${needs.headDim} dimensions of a head would be rotated`);
  return makeRope(dims, theta, true, ...(scaling ? readScaling(config, scaling, needs, dims) : []));
}

/** Positions without scaling, for layers that are said to have their own base (Gemma 3). */
export const plainRope = (headDim: number, theta: number): Rope => makeRope(headDim, theta, true);

function readScaling(config: Fields, s: Fields, needs: RopeNeeds, dims: number): RopeScaling[] {
  const type = s.text('rope_type', s.text('type', 'default'));
  // the model's own field comes first, as it does in transformers
  const context = () =>
    config.integer(
      'original_max_position_embeddings',
      s.integer('original_max_position_embeddings', needs.contextLength),
    );
  switch (type) {
    case 'default':
      return [];
    case 'dynamic':
      // changes nothing up to max_position_embeddings, and no sequence may be longer
      return [];
    case 'linear':
      return [{ kind: 'linear', factor: s.positive('factor') }];
    case 'llama3':
      return [
        {
          kind: 'llama3',
          factor: s.positive('factor'),
          low: s.positive('low_freq_factor'),
          high: s.positive('high_freq_factor'),
          context: context(),
        },
      ];
    case 'yarn':
      return [readYarn(s, needs, context())];
    case 'longrope':
    case 'su':
      return [readLongRope(s, needs, context(), dims)];
  }
  throw errors.unsupportedModel(
    `its positions are scaled by '${type}' (supported: default, linear, dynamic, llama3, yarn, longrope)`,
  );
}

function readYarn(s: Fields, needs: RopeNeeds, context: number): RopeScaling {
  const factor = s.has('factor') ? s.positive('factor') : needs.contextLength / context;
  const [mscale, all] = [s.amount('mscale'), s.amount('mscale_all_dim')];
  const by = (m: number): number => (factor > 1 ? 0.1 * m * Math.log(factor) + 1 : 1);
  const given = s.amount('attention_factor');
  return {
    kind: 'yarn',
    factor,
    context,
    betaFast: s.positive('beta_fast', 32),
    betaSlow: s.positive('beta_slow', 1),
    truncate: s.flag('truncate', true),
    magnitude: given || (mscale && all ? by(mscale) / by(all) : by(1)),
  };
}

function readLongRope(s: Fields, needs: RopeNeeds, context: number, dims: number): RopeScaling {
  const name = needs.sessionLen > context ? 'long_factor' : 'short_factor';
  const factors = s.numbers(name);
  if (!factors || factors.length !== dims / 2 || !factors.every((f) => f > 0))
    throw s.bad(name, `a list of ${dims / 2} positive numbers`);
  const factor = s.has('factor') ? s.positive('factor') : needs.contextLength / context;
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(context));
  return { kind: 'longrope', factors, magnitude: s.amount('attention_factor') || usual };
}
