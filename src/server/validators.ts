/** How bodies, queries and paths are checked: by Ajv, compiled when the first request of a route comes. */
import AjvCompiler from '@fastify/ajv-compiler';

/** The servers of a process share what was compiled. */
const compilers = AjvCompiler();

type Compile = ReturnType<typeof compilers>;
type Validate = ReturnType<Compile>;

/** For fastify's `compilersFactory`. All schemas together take half a second: a server does not wait for them. */
export const buildValidator: typeof compilers = (schemas, options) => {
  const compile = compilers(schemas, options);
  return (route) => {
    let validate: Validate | undefined;
    const check = (data: unknown) => {
      validate ??= compile(route);
      const valid = validate(data);
      check.errors = validate.errors;
      return valid;
    };
    check.errors = undefined as Validate['errors'];
    return check as Validate;
  };
};
