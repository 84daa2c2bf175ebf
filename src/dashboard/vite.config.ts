/** Builds the page into dist/dashboard, from where the server serves it. */
import { defineConfig } from 'vite';

export default defineConfig({
  base: '/',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: '../../dist/dashboard',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: { polyfill: false },
    // every file is a request of its own origin; nothing is inlined, so that the content security policy can stay strict
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
