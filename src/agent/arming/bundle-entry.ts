import { createArming } from './arming.ts';

export default createArming;
