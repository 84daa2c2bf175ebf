/** /openapi.json (3.1), made from the schemas that the routes validate with. */
import type { FastifyInstance, RouteOptions } from 'fastify';
import type { Schema } from './fields.js';
import { components } from './responses.js';

interface DocumentedSchema {
  hide?: boolean;
  tags?: string[];
  summary?: string;
  body?: Schema;
  params?: { properties: Record<string, Schema> };
  querystring?: { properties: Record<string, Schema> };
  response?: Record<string, Schema>;
}

export interface RouteList {
  document(title: string, version: string): Record<string, unknown>;
  /** Methods of the routes that match a path, for 405. */
  methodsOf(path: string): string[];
}

/** Watches an app's routes as they are added. Call before adding any. */
export function watchRoutes(app: FastifyInstance): RouteList {
  const routes: { method: string; url: string; open: boolean; schema: DocumentedSchema }[] = [];
  app.addHook('onRoute', (route: RouteOptions) => {
    for (const method of [route.method].flat()) {
      const schema = (route.schema ?? {}) as DocumentedSchema;
      routes.push({ method, url: route.url, open: route.config?.open === true, schema });
    }
  });
  return {
    document(title, version) {
      const paths: Record<string, Record<string, unknown>> = {};
      for (const r of routes) {
        if (r.schema.hide || r.method === 'HEAD' || r.method === 'OPTIONS') continue;
        const path = r.url.replace(/:(\w+)/g, '{$1}').replace('*', '{name}');
        paths[path] = { ...paths[path], [r.method.toLowerCase()]: operation(r.schema, r.open) };
      }
      return {
        openapi: '3.1.0',
        info: { title, version },
        paths,
        components: { schemas: components, securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
      };
    },
    methodsOf: (path) => [
      ...new Set(routes.filter((r) => pattern(r.url).test(path) && !r.url.startsWith('*')).map((r) => r.method)),
    ],
  };
}

const pattern = (url: string): RegExp =>
  new RegExp(`^${url.replace(/[.]/g, '\\.').replace(/:\w+/g, '[^/]+').replace('*', '.+')}$`);

function operation(schema: DocumentedSchema, open: boolean): Record<string, unknown> {
  const parameters = Object.entries(schema.params?.properties ?? {}).map(([name, s]) => ({
    name: name === '*' ? 'name' : name,
    in: 'path',
    required: true,
    schema: s,
  }));
  const query = Object.entries(schema.querystring?.properties ?? {}).map(([name, s]) => ({
    name,
    in: 'query',
    required: false,
    schema: s,
  }));
  parameters.push(...query);
  return {
    tags: schema.tags,
    summary: schema.summary,
    ...(parameters.length ? { parameters } : {}),
    ...(schema.body
      ? { requestBody: { required: !mayBeNull(schema.body), content: { 'application/json': { schema: schema.body } } } }
      : {}),
    responses: schema.response ?? {},
    ...(open ? { security: [] } : { security: [{ key: [] }, {}] }),
  };
}

const mayBeNull = ({ type }: Schema): boolean => Array.isArray(type) && type.includes('null');
