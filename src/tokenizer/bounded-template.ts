/**
 * Chat templates with bounds. A template is a program out of a model file: what it may build and how long it may go on is
 * limited inside the engine that runs it, since JavaScript cannot be stopped from within once it asks for too much.
 */
import * as jinja from '@huggingface/jinja';
import { errors } from '../errors.js';

export interface TemplateBounds {
  /** Expressions and statements evaluated, items of lists that are made or looped over. A message takes about 20 to 60. */
  steps: number;
  /** Items of a list, range() included. */
  items: number;
  /** Characters of a text, what is put out included. */
  chars: number;
  /** Characters of all texts that are made on the way. */
  work: number;
}

const TEMPLATE_BOUNDS: TemplateBounds = { steps: 2e6, items: 2 ** 18, chars: 2 ** 25, work: 2 ** 31 };

/** What is used here of the package's interpreter: its declarations have imports that TypeScript does not follow. */
interface Statement {
  type: string;
}
interface Environment {
  set(name: string, value: unknown): unknown;
}
declare class BaseInterpreter {
  constructor(environment: Environment);
  run(program: unknown): { value: unknown };
  evaluate(statement: Statement | undefined, environment: Environment): { value: unknown };
}
const { Environment, Interpreter, parse, Template, tokenize } = jinja as unknown as {
  Environment: new () => Environment;
  Interpreter: typeof BaseInterpreter;
  parse(tokens: unknown): unknown;
  Template: typeof jinja.Template;
  tokenize(text: string, options: object): unknown;
};

export class BoundedTemplate {
  readonly #program: unknown;

  /** Throws what the parser says. */
  constructor(
    text: string,
    private readonly bounds: TemplateBounds = TEMPLATE_BOUNDS,
  ) {
    this.#program = parse(tokenize(text, { lstrip_blocks: true, trim_blocks: true }));
  }

  /** @throws bad_chat_template beyond a bound; else what the template raises */
  render(variables: Record<string, unknown>): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...globals(this.bounds), ...variables })) environment.set(name, value);
    return String(new BoundedInterpreter(environment, this.bounds).run(this.#program).value);
  }
}

/** What Template.render gives to every template, with a range() that refuses instead of filling the memory. */
function globals(bounds: TemplateBounds): Record<string, unknown> {
  const dates = new Template('{{ strftime_now(format) }}');
  return {
    false: false,
    true: true,
    none: null,
    False: false,
    True: true,
    None: null,
    raise_exception: (message: unknown) => {
      throw new Error(String(message));
    },
    range: (start: unknown, stop?: unknown, step?: unknown) => range(bounds.items, start, stop, step),
    strftime_now: (format: unknown) => dates.render({ format: short(format) }),
  };
}

function range(most: number, ...given: unknown[]): number[] {
  const numbers = given.filter((n) => n !== undefined && n !== null).map(Number);
  if (numbers.length === 0 || numbers.some((n) => !Number.isFinite(n))) throw new Error('range() takes numbers');
  const [from, to, step] = numbers.length === 1 ? [0, numbers[0]!, 1] : [numbers[0]!, numbers[1]!, numbers[2] ?? 1];
  if (step === 0) throw new Error('range() step must not be zero');
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!(length <= most)) throw beyond(`range() of ${length} numbers`, most);
  return Array.from({ length }, (_, i) => from + i * step);
}

/** A format that no date needs is a way to make long texts. */
function short(format: unknown): string {
  if (typeof format !== 'string' || format.length > 256) throw new Error('strftime_now() takes a short text');
  return format;
}

class BoundedInterpreter extends Interpreter {
  #steps = 0;
  #work = 0;
  /** Expressions that a loop goes over: each of their items is a step. */
  readonly #iterated = new Set<unknown>();

  constructor(
    environment: Environment,
    private readonly bounds: TemplateBounds,
  ) {
    super(environment);
  }

  override evaluate(statement: Statement | undefined, environment: Environment): { value: unknown } {
    this.#count(1);
    if (statement?.type === 'For') this.#iterated.add(iterableOf(statement));
    const result = super.evaluate(statement, environment);
    const { value } = result;
    if (typeof value === 'string') {
      if (value.length > this.bounds.chars) throw beyond(`a text of ${value.length} characters`, this.bounds.chars);
      // a name or a literal is a text that was there before
      if (statement?.type !== 'Identifier' && statement?.type !== 'StringLiteral') this.#work += value.length;
      if (this.#work > this.bounds.work)
        throw beyond('a template that makes text on and on', this.bounds.work, 'characters');
    } else if (Array.isArray(value)) {
      if (value.length > this.bounds.items) throw beyond(`a list of ${value.length} items`, this.bounds.items);
      const isNew = statement?.type !== 'Identifier' && statement?.type !== 'MemberExpression';
      if (isNew || this.#iterated.has(statement)) this.#count(value.length);
    }
    return result;
  }

  #count(steps: number): void {
    this.#steps += steps;
    if (this.#steps > this.bounds.steps) throw beyond('a template that goes on and on', this.bounds.steps, 'steps');
  }
}

/** `for x in xs if …` goes over xs. */
function iterableOf(loop: Statement): unknown {
  const { iterable } = loop as Statement & { iterable: Statement & { lhs?: unknown } };
  return iterable.type === 'SelectExpression' ? iterable.lhs : iterable;
}

const beyond = (what: string, most: number, unit = '') =>
  errors.badTemplate(`${what} is more than it may make (${most}${unit && ` ${unit}`})`);
