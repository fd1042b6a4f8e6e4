export type { LinkInput } from './input.ts';
export { linkObjects } from './linker.ts';
