/** /set: the sampling and limits of the turns to come. */
import { errors, flagName, limitOptions, type OptionSpec, type RequestOptions, samplingOptions } from '../../index.js';

/** Of no use to somebody who chats. */
export const LEFT_OUT = ['logitBias', 'logprobs', 'stopTokens', 'ignoreEos', 'minTokens'];

const table = Object.entries({ ...samplingOptions, ...limitOptions } as Record<string, OptionSpec<unknown>>).filter(
  ([name]) => !LEFT_OUT.includes(name),
);
const shownName = (name: string): string => flagName(name).slice(2);

/** `name value`, `name default`, a name alone, or nothing. @throws LongmindError invalid_option, unknown_option */
export function set(options: RequestOptions, line: string): string {
  const given = options as Record<string, unknown>;
  const shown = (name: string, spec: OptionSpec<unknown>) =>
    `${shownName(name).padEnd(20)} ${JSON.stringify(given[name] ?? spec.default) ?? ''}${name in given ? '' : ' (default)'}`;
  const [, wanted = '', value = ''] = /^(\S*)\s*(.*)$/s.exec(line.trim())!;
  if (wanted === '') return table.map(([name, spec]) => `${shown(name, spec)}  ${spec.help}`).join('\n');
  const found = table.find(([name]) => name === wanted || shownName(name) === wanted.replace(/^--/, ''));
  if (!found) throw errors.unknownOption(wanted, undefined);
  const [name, spec] = found;
  if (value === 'default') delete given[name];
  else if (value !== '') {
    const parsed = spec.parse(value);
    if (parsed === undefined) throw errors.invalidOption(shownName(name), value, spec.expected);
    given[name] = parsed;
  }
  return shown(name, spec);
}
