export { inject as default } from './inject.ts';
