import { checkPriority, checkSessionId, limitOptions, parseOptions, samplingOptions } from '../config.js';
import { errors, LongmindError } from '../errors.js';
import type { RequestOptions } from '../types.js';

/** Request options beside the sampling and limit tables. */
const REQUEST_FIELDS = [
  'sessionId',
  'sessionAppend',
  'sessionLength',
  'priority',
  'owner',
  'adapter',
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
    checkLength(options);
    checkPriority(options.priority ?? 0);
    if (options.after !== undefined && options.sessionId !== undefined)
      throw errors.invalidRequest("'after' names what to go on from: 'sessionId' cannot be given too", 'after');
    if (options.adapter != null && typeof options.adapter !== 'string')
      throw errors.invalidRequest("'adapter' must be the name of a LoRA adapter", 'adapter');
    if (options.keepAs) checkSessionId(options.keepAs.name, 'keepAs');
    return { sampling, limits };
  } catch (e) {
    if (e instanceof LongmindError) return e;
    throw e;
  }
}

function checkLength({ sessionLength: length, sessionId, sessionAppend }: RequestOptions): void {
  if (length === undefined) return;
  if (!Number.isInteger(length) || length < 0 || length >= 2 ** 31)
    throw errors.invalidOption('sessionLength', length, 'a number of tokens');
  if (sessionId === undefined || !sessionAppend)
    throw errors.invalidRequest("'sessionLength' needs a sessionId and sessionAppend", 'session_length');
}

function pick(options: object, table: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name in table));
}
