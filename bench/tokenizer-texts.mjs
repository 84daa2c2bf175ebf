// The awkward texts of the tests, as JSON, for tokenizer_fixtures.py (after `npm run build`).
import { awkwardTexts } from '../dist/test/tokenizer/texts.js';

process.stdout.write(JSON.stringify(awkwardTexts(2000)));
