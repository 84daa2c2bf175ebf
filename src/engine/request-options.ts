import { checkPriority, checkSessionId, limitOptions, parseOptions, samplingOptions } from '../config.js';
import { LongmindError } from '../errors.js';
import type { RequestOptions } from '../types.js';

/** Request options beside the sampling and limit tables. */
const REQUEST_FIELDS = ['sessionId', 'sessionAppend', 'priority', 'owner', 'signal', 'grammar', 'tools'] as const;

/** Options of a request by their tables; an error where one is wrong or not known. */
export function readOptions(options: RequestOptions) {
  try {
    const sampling = parseOptions(samplingOptions, pick(options, samplingOptions));
    const limits = parseOptions(limitOptions, pick(options, limitOptions));
    const known = [...REQUEST_FIELDS, ...Object.keys(samplingOptions), ...Object.keys(limitOptions)];
    parseOptions({}, options as Record<string, unknown>, known);
    if (options.sessionId !== undefined) checkSessionId(options.sessionId);
    checkPriority(options.priority ?? 0);
    return { sampling, limits };
  } catch (e) {
    if (e instanceof LongmindError) return e;
    throw e;
  }
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
