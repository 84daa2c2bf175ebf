/** Errors of the HTTP surface, and how any error becomes an OpenAI-shaped body. */
import type { FastifyError, FastifySchemaValidationError } from 'fastify';
import { errors, LongmindError } from '../index.js';
import { neutralFields, optionFields, optionOf, rules } from './fields.js';

/** What a content part of such a type holds. */
const MEDIA: [RegExp, string][] = [
  [/image/, 'images'],
  [/audio/, 'sounds'],
  [/video/, 'videos'],
  [/file|document/, 'files'],
];

/** Types of parts of messages that are understood, in any of the APIs. */
const KNOWN_PARTS = new Set([
  ...['text', 'input_text', 'output_text', 'refusal', 'summary_text', 'reasoning_text'],
  ...['message', 'function_call', 'function_call_output', 'reasoning', 'item_reference'],
  ...['tool_use', 'tool_result', 'thinking', 'redacted_thinking'],
]);

export const serverErrors = {
  responseUnknown: (id: string, param: string) =>
    new LongmindError('response_not_found', 404, `there is no response '${id}'`, param),
  itemUnknown: (id: string, param: string) =>
    new LongmindError('item_not_found', 404, `there is no item '${id}'`, param),
  conversationUnknown: (id: string, param: string) =>
    new LongmindError('conversation_not_found', 404, `there is no conversation '${id}'`, param),
  conversationLocked: (id: string, param: string, retryAfterMs: number | null = null) =>
    new LongmindError(
      'conversation_locked',
      409,
      `a response is being made in the conversation '${id}'`,
      param,
      retryAfterMs,
    ),
  conversationLost: (id: string) =>
    new LongmindError(
      'conversation_locked',
      409,
      `the conversation '${id}' was taken over by another server, which this one had not answered for too long: ` +
        'nothing was added to it',
      'conversation',
      1000,
    ),
  conversationUncertain: (place: string, id: string) =>
    new LongmindError(
      'session_store_unavailable',
      503,
      `the session store (${place}) did not say whether it keeps what was done to the conversation '${id}': look at its items`,
      null,
      1000,
    ),
  conversationTooLarge: (chars: number, max: number, param: string) =>
    new LongmindError(
      'conversation_too_large',
      400,
      `the conversation would have ${chars} characters; at most ${max} are kept`,
      param,
    ),
  conversationStoreInUse: (dir: string, holder: string) =>
    new LongmindError(
      'conversation_store_in_use',
      500,
      `the conversations in '${dir}' are in use by ${holder}: stop that one, or give this one a folder of its own`,
      'conversationStore',
    ),
  noRerank: (model: string) =>
    new LongmindError('rerank_unsupported', 400, `the model '${model}' is no reranker: there is no /v1/rerank with it`),
  remoteWithoutKey: (host: string) =>
    new LongmindError(
      'remote_without_key',
      400,
      `refusing to listen on '${host}' without API keys: give --api-keys KEY, or --allow-remote-without-key if ` +
        'everybody who can reach this address may use the model',
      'serverName',
    ),
  keyCollision: () => new LongmindError('invalid_option', 400, 'two of the API keys are the same', 'apiKeys'),
  unsupportedField: (name: string) =>
    new LongmindError(
      'unsupported_field',
      400,
      `field '${name}' with this value is not supported by this server`,
      name,
    ),
  unsupportedContent: (type: string, at: string) =>
    new LongmindError(
      'unsupported_content',
      400,
      `${MEDIA.find(([pattern]) => pattern.test(type))?.[1] ?? `content parts of the type '${type}'`} are not supported by this model`,
      at,
    ),
  noRoute: (method: string, path: string) =>
    new LongmindError('not_found', 404, `there is no ${method} ${path} here; /openapi.json lists what there is`),
  wrongMethod: (method: string, path: string) =>
    new LongmindError('method_not_allowed', 405, `${path} does not take ${method}`),
  forbiddenHost: () =>
    new LongmindError(
      'forbidden_host',
      403,
      'this server answers on the loopback address only; the Host header names another (a browser page may be ' +
        'trying to reach it by DNS rebinding)',
    ),
  mediaType: () => new LongmindError('unsupported_media_type', 415, 'send the body as Content-Type: application/json'),
  requestUnknown: (id: string) =>
    new LongmindError('request_not_found', 404, `there is no running request '${id}'`, 'id'),
};

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
}

/** The shape every client of the OpenAI API knows. Unexpected errors keep their text out of the answer. */
export function errorBody(error: LongmindError): ErrorBody {
  // where in our code it happened is for the log
  const message = error.status < 500 ? error.message : error.message.split('\n', 1)[0];
  return {
    error: { message, type: errorType(error.status), param: apiName(error.param), code: error.code },
  };
}

function errorType(status: number): string {
  if (status === 401 || status === 403) return 'authentication_error';
  if (status === 404) return 'not_found_error';
  if (status === 409) return 'conflict_error';
  if (status === 429) return 'rate_limit_error';
  return status < 500 ? 'invalid_request_error' : 'server_error';
}

/** The engine names options in camelCase; an API client knows the field. */
function apiName(param: string | null): string | null {
  const field = Object.entries(optionFields).find(([, option]) => option === param);
  return field ? field[0] : param === 'maxTokens' ? 'max_tokens' : param;
}

/** Anything thrown while a request is served → the typed error that its client sees. */
export function toLongmindError(error: unknown, bodyLimit: number): LongmindError {
  if (error instanceof LongmindError) return error;
  const e = error as Partial<FastifyError>;
  switch (e.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return errors.bodyTooLarge(bodyLimit);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return serverErrors.mediaType();
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return errors.invalidRequest('the body is shorter or longer than its Content-Length');
  }
  const status = e.statusCode ?? 500;
  if (status >= 400 && status < 500) return errors.invalidRequest(e.message ?? 'bad request');
  return new LongmindError('internal_error', 500, 'an internal error occurred; the server log has the details');
}

/** The first violation of a request schema, as a typed error that names the field. Used as schemaErrorFormatter. */
export function schemaError(list: FastifySchemaValidationError[], where: string): LongmindError {
  for (const violation of list) {
    const rule = rules[Number(/^#\/allOf\/(\d+)\//.exec(violation.schemaPath ?? '')?.[1] ?? -1)];
    if (rule) return errors.invalidRequest(rule.message, rule.param);
  }
  const part = list.map(foreignPart).find((error) => error !== null);
  if (part) return part;
  const worst = [...list].sort((a, b) => depth(b) - depth(a))[0]!;
  const extra = worst.params.additionalProperty as string | undefined;
  const missing = worst.params.missingProperty as string | undefined;
  const path = fieldPath(worst.instancePath);
  const field = path.split(/[.[]/)[0]!;
  if (missing !== undefined) {
    const name = path ? `${path}.${missing}` : missing;
    return errors.invalidRequest(`field '${name}' is missing`, name);
  }
  if (extra !== undefined && path === '') {
    return new LongmindError('unknown_field', 400, `field '${extra}' is not known`, extra);
  }
  if (neutralFields.has(field)) return serverErrors.unsupportedField(field);
  if (field in optionFields) {
    const { expected } = optionOf(optionFields[field as keyof typeof optionFields]);
    return errors.invalidRequest(`field '${field}' must be ${expected}`, field);
  }
  if (extra !== undefined)
    return errors.invalidRequest(`field '${path}.${extra}' is not supported`, `${path}.${extra}`);
  if (worst.instancePath === '' && worst.keyword === 'type')
    return errors.invalidRequest('the request body must be a JSON object');
  const wanted = list
    .filter((v) => v.instancePath === worst.instancePath && v.keyword === 'type')
    .map((v) => v.params.type);
  if (worst.keyword === 'type')
    return errors.invalidRequest(`field '${path}' must be of type ${wanted.join(' or ')}`, path);
  const allowed = worst.params.allowedValues as unknown[] | undefined;
  const detail = allowed ? `must be one of ${allowed.map((v) => JSON.stringify(v)).join(', ')}` : worst.message;
  return errors.invalidRequest(`${path ? `field '${path}'` : `the request ${where}`} ${detail}`, path || null);
}

/** An image, say, in a message: what failed is told by what the part is, not by the fields it has. */
function foreignPart(violation: FastifySchemaValidationError & { data?: unknown }): LongmindError | null {
  const at = /^\/(messages|input|system|items)\/\d+(\/(content|output)\/\d+(\/content\/\d+)?)?$/.test(
    violation.instancePath,
  );
  const type = at ? (violation.data as { type?: unknown } | null)?.type : undefined;
  if (typeof type !== 'string' || KNOWN_PARTS.has(type)) return null;
  return serverErrors.unsupportedContent(type.slice(0, 64), fieldPath(violation.instancePath));
}

/** A violation deep inside one alternative says more than "must match a schema in anyOf". */
const depth = (e: FastifySchemaValidationError): number =>
  e.instancePath.split('/').length + (e.keyword === 'anyOf' || e.params.type === 'null' ? -0.5 : 0);

/** '/messages/0/content' → 'messages[0].content'. */
function fieldPath(pointer: string): string {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replace(/~1/g, '/').replace(/~0/g, '~'))
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : path ? `${path}.${part}` : part), '');
}
