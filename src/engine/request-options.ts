import { checkPriority, checkSessionId, limitOptions, parseOptions, samplingOptions } from '../config.js';
import { errors, LongmindError } from '../errors.js';
import type { RequestOptions } from '../types.js';

/** Request options beside the sampling and limit tables. */
const REQUEST_FIELDS = [
  'sessionId',
  'sessionAppend',
  'priority',
  'owner',
  'signal',
  'grammar',
  'tools',
  'chatTemplateKwargs',
  'after',
  'keepAs',
] as const;

/** Options of a request by their tables; an error where one is wrong or not known. */
export function readOptions(options: RequestOptions) {
  try {
    const sampling = parseOptions(samplingOptions, pick(options, samplingOptions));
    const limits = parseOptions(limitOptions, pick(options, limitOptions));
    const known = [...REQUEST_FIELDS, ...Object.keys(samplingOptions), ...Object.keys(limitOptions)];
    parseOptions({}, options as Record<string, unknown>, known);
    if (options.sessionId !== undefined) checkSessionId(options.sessionId);
    checkPriority(options.priority ?? 0);
    if (options.after !== undefined && options.sessionId !== undefined)
      throw errors.invalidRequest("'after' names what to go on from: 'sessionId' cannot be given too", 'after');
    if (options.keepAs) checkSessionId(options.keepAs.name, 'keepAs');
    return { sampling, limits };
  } catch (e) {
    if (e instanceof LongmindError) return e;
    throw e;
  }
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
