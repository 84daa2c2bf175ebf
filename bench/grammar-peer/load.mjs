// @mlc-ai/web-xgrammar 0.1 says "type": "module", but its only file is a UMD bundle: Node can neither import it (no exports; it
// also calls `require`) nor require it (an ES module by its package.json). Compiled by hand as CommonJS it works.
import fs from 'node:fs';
import Module, { createRequire } from 'node:module';
import path from 'node:path';

const manifest = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar/package.json');

export const peerVersion = JSON.parse(fs.readFileSync(manifest, 'utf8')).version;

/** A new instance of the library with a WebAssembly memory of its own. */
export function loadPeer() {
  const file = path.join(path.dirname(manifest), 'lib/index.js');
  const module = new Module(file);
  module.filename = file;
  module._compile(fs.readFileSync(file, 'utf8'), file);
  return module.exports;
}

/** What Node says to the package as it was published, for the record. */
export async function publishedErrors() {
  const said = (e) => String(e.message).split('\n')[0];
  const errors = {};
  try {
    const { GrammarCompiler } = await import('@mlc-ai/web-xgrammar');
    errors.import = GrammarCompiler ? null : 'no exports';
  } catch (e) {
    errors.import = said(e);
  }
  try {
    const { GrammarCompiler } = createRequire(import.meta.url)('@mlc-ai/web-xgrammar');
    errors.require = GrammarCompiler ? null : 'no exports';
  } catch (e) {
    errors.require = said(e);
  }
  return errors;
}
