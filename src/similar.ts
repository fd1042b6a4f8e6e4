/** The nearest name, for hints: the machine's, which imports nothing outside itself. */
export { didYouMean, editDistance, nearest, similarName } from './bpf/similar.ts';
