import { setDepth } from './batch.js';

setDepth(2);
