export { MainHalf as default } from './half.ts';
